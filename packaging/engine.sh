#!/usr/bin/env bash
# The container engine of this machine, for the scripts that need one:
#   engine.sh answers         exit status 0 when an engine answers this user
#   engine.sh locked          exit status 0 when one is there but its socket is not for this user
#   engine.sh has-image NAME  exit status 0 when the engine has that image
#   engine.sh start [DIR]     starts the installed one, through systemd where that runs; with DIR by hand, its state in DIR
#   engine.sh stop DIR        stops the one that was started with DIR and removes what it kept there
#   engine.sh stop-service    stops the one that its package or init started
#   engine.sh as-member CMD   runs CMD so that it may use the engine, through sudo and the group `docker` where it must
set -euo pipefail

socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
socket=${socket#unix://}

say() { printf 'aegis: %s\n' "$1" >&2; }

answers() {
    case $socket in *://*) command -v docker >/dev/null && docker version >/dev/null 2>&1; return ;; esac
    [ -S "$socket" ] && [ -w "$socket" ] || return 1
    if command -v curl >/dev/null; then
        curl --silent --fail --max-time 10 --unix-socket "$socket" http://engine/_ping >/dev/null
    elif command -v docker >/dev/null; then
        docker version >/dev/null 2>&1
    else
        # Nothing here can ask it; that something listens has to do.
        grep -q " 00010000 .* $(readlink -f "$socket" | sed 's/[.]/[.]/g')$" /proc/net/unix
    fi
}

locked() { [ -S "$socket" ] && [ ! -w "$socket" ]; }

# Asks an image's name of the engine; the caller knows that the engine answers.
has_image() {
    case $socket in *://*) docker image inspect "$1" >/dev/null 2>&1; return ;; esac
    if command -v curl >/dev/null; then
        curl --silent --fail --max-time 10 --output /dev/null --unix-socket "$socket" "http://engine/images/$1/json"
    else
        command -v docker >/dev/null && docker image inspect "$1" >/dev/null 2>&1
    fi
}

# Waits a minute for an answer, or less when the process that should give it (if one is named) has ended.
await() {
    local second
    for second in $(seq 60); do
        if answers; then return 0; fi
        [ -z "${1:-}" ] || [ -d "/proc/$1" ] || return 1
        [ "$second" = 60 ] || sleep 1
    done
    return 1
}

controllers_mounted() { [ -e /sys/fs/cgroup/cgroup.controllers ] || [ -d /sys/fs/cgroup/memory ]; }

# Its log goes to DIR; further arguments are the engine's.
start_by_hand() {
    local log=$1/dockerd.log
    mkdir -p "$1"
    controllers_mounted || cgroupfs-mount
    setsid dockerd --host "unix://$socket" "${@:2}" </dev/null >"$log" 2>&1 &
    if ! await $!; then
        say "dockerd does not answer at $socket; the end of $log:"
        tail -n 20 "$log" >&2
        return 1
    fi
}

start() {
    if [ -n "${1:-}" ]; then
        # Nothing of the host's network is changed but for the bridge, which goes with the engine if it came with it.
        mkdir -p "$1"
        [ -d /sys/class/net/docker0 ] || : >"$1/bridge-is-ours"
        start_by_hand "$1" --pidfile "$1/dockerd.pid" --data-root "$1/data" --exec-root "$1/exec" \
            --iptables=false --ip6tables=false --ip-forward=false
    elif [ -d /run/systemd/system ]; then
        systemctl start docker
        await
    else
        start_by_hand /var/log/aegis
    fi
}

stop() {
    local root=$1 pid mount
    pid=$(cat "$root/dockerd.pid" 2>/dev/null || true)
    if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
        for _ in $(seq 30); do
            [ -d "/proc/$pid" ] || break
            sleep 1
        done
    fi
    while read -r _ mount _; do
        case $mount in "$root"/*) umount "$mount" || true ;; esac
    done < <(tac /proc/mounts)
    if [ -e "$root/bridge-is-ours" ] && command -v ip >/dev/null; then ip link delete docker0 || true; fi
    rm -rf "$root"
}

stop_service() {
    if [ -d /run/systemd/system ]; then systemctl stop docker.service docker.socket; else service docker stop; fi
}

as_member() {
    if locked && [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then
        say "the engine's socket is not for $(id -un); running this with the group \`docker\` through sudo"
        exec sudo --preserve-env --user "$(id -un)" --group docker -- "$@"
    fi
    exec "$@"
}

case ${1:-} in
    answers) answers ;;
    locked) locked ;;
    has-image) has_image "$2" ;;
    start) start "${2:-}" ;;
    stop) stop "$2" ;;
    stop-service) stop_service ;;
    as-member) shift; as_member "$@" ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
