#!/usr/bin/env bash
# Gets a Debian or Ubuntu machine ready for what is named: `bootstrap.sh [build] [engine] [image-NAME]... [test] [lint] [docs] [sbom] [fuzz] [api_tester]`.
# It looks first, says what is missing and how it will be had, asks on a terminal, and then does it. Where nothing is
# missing it does nothing; an engine that answers is left alone.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NEXTEST=0.9.143
readonly DENY=0.20.2
readonly MDBOOK=0.5.4
readonly CYCLONEDX=0.5.9
readonly FUZZ=0.13.2
SCHEMATHESIS=$(sed -n 's/^schemathesis==\([0-9.]*\).*/\1/p' packaging/schemathesis.txt)
readonly SCHEMATHESIS
pinned=$(packaging/cargo.sh --pinned)

packages=()   # from the distribution
tools=()      # crates, as name@version
lines=()      # what will be done, for a person
rust=''       # install (rustup too), add (a toolchain), or nothing
components='' # yes where rustfmt or clippy is missing
engine=''     # install, start, or nothing
tester=''     # where the tester of the API goes, where it is missing

say() { printf '%s\n' "$1" >&2; }

fail() {
    printf 'aegis: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

has() { command -v "$1" >/dev/null; }

compiles() { has cc && printf '#include <stdlib.h>\nint main(void){return 0;}\n' | cc -x c -fsyntax-only - 2>/dev/null; }

need_build() {
    compiles || packages+=(gcc libc6-dev)
    has make || packages+=(make)
    packaging/cargo.sh --check && return
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    if has rustup; then rust=add; else rust=install; fi
    if [ "$rust" = install ] && ! has curl; then packages+=(curl ca-certificates); fi
}

need_engine() {
    if packaging/engine.sh answers || packaging/engine.sh locked; then return; fi
    case ${DOCKER_HOST:-unix://} in
        unix://*) ;;
        *) fail "no engine answers at DOCKER_HOST=$DOCKER_HOST" 'unset DOCKER_HOST, or start that engine' ;;
    esac
    if has dockerd; then engine=start; else engine=install; fi
    [ "$engine" = start ] || packages+=(docker.io)
    # With this module on, the engine cannot start a container without the package's parser.
    if grep -qs Y /sys/module/apparmor/parameters/enabled && ! has apparmor_parser; then packages+=(apparmor); fi
    if [ ! -d /run/systemd/system ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ] && [ ! -d /sys/fs/cgroup/memory ]; then
        packages+=(cgroupfs-mount)
    fi
}

need_image() {
    if has mmdebstrap || { packaging/engine.sh answers && packaging/engine.sh has-image "aegis/$1"; }; then return; fi
    case " ${packages[*]} " in *' mmdebstrap '*) ;; *) packages+=(mmdebstrap) ;; esac
}

# The server's programs lie outside of the path.
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && has psql; }

# Tests speak to the engine by its command line too, and to a real registry.
need_test() {
    has docker || packages+=(docker.io)
    has docker-registry || packages+=(docker-registry)
    has python3 || packages+=(python3)
    has git || packages+=(git)
    has ip || packages+=(iproute2)
    has curl || packages+=(curl)
    has_postgres || packages+=(postgresql)
    has faketime || packages+=(faketime)
    has setpriv || packages+=(util-linux)
    has cargo-nextest || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-nextest" ] || tools+=("cargo-nextest@$NEXTEST")
}

need_docs() {
    has mdbook || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/mdbook" ] || tools+=("mdbook@$MDBOOK")
}

need_sbom() {
    has cargo-cyclonedx || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-cyclonedx" ] || tools+=("cargo-cyclonedx@$CYCLONEDX")
}

need_fuzz() {
    has g++ || packages+=(g++)
    has cargo-fuzz || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-fuzz" ] || tools+=("cargo-fuzz@$FUZZ")
}

# In a Python environment of its own.
need_api_tester() {
    local place=${XDG_CACHE_HOME:-$HOME/.cache}/aegis/schemathesis-$SCHEMATHESIS
    # What was installed last, and whole.
    ! cmp -s packaging/schemathesis.txt "$place/pins" || return 0
    tester=$place
    if ! has python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then packages+=(python3 python3-venv); fi
    if has python3 && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        fail 'the tester of the HTTP interface needs Python 3.11 or newer, and this machine has an older one' \
            'run the tests on Debian 12, Ubuntu 24.04, or newer'
    fi
}

components_are_here() { packaging/cargo.sh fmt --version && packaging/cargo.sh clippy --version; } >/dev/null 2>&1

need_lint() {
    has git || packages+=(git)
    has cargo-deny || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-deny" ] || tools+=("cargo-deny@$DENY")
    [ -n "$rust" ] || components_are_here || components=yes
}

plan() {
    [ ${#packages[@]} = 0 ] || lines+=("packages of this distribution: ${packages[*]}")
    [ "$rust" != install ] || lines+=("Rust $pinned through rustup, from static.rust-lang.org, into the home directory")
    [ "$rust" != add ] || lines+=("Rust $pinned, beside the toolchains that rustup has here")
    [ -z "$components" ] || lines+=('rustfmt and clippy, through rustup')
    [ ${#tools[@]} = 0 ] || lines+=("programs built by cargo install: ${tools[*]}")
    [ -z "$tester" ] || lines+=("schemathesis $SCHEMATHESIS, by pip and by digest, into $tester")
    [ -z "$engine" ] || lines+=('the engine (dockerd) is started')
}

ask() {
    say 'Aegis needs what this machine does not have. It will install or start:'
    for line in "${lines[@]}"; do say "  - $line"; done
    [ -t 0 ] && [ -t 2 ] && [ -z "${CI:-}" ] || return 0
    local answer
    read -r -p 'Go on? [Y/n] ' answer
    case $answer in '' | [Yy]*) ;; *) fail 'nothing was changed' ;; esac
}

# What only root may do, or the exact commands for somebody who may.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail 'this needs root, and there is no sudo. As root, do:' "$*" 'and then start this again.'
    fi
}

install_packages() {
    has apt-get || fail 'this machine has no apt-get. Install with its own package manager:' \
        "${packages[*]} (these are the names on Debian)" 'and then start this again.'
    [ "$(id -u)" = 0 ] || has sudo || fail 'packages are missing, and there is no sudo. As root, do:' \
        "apt-get update && apt-get install -y --no-install-recommends ${packages[*]}" 'and then start this again.'
    as_root apt-get update -q >&2
    # Newer releases pack the command line of the engine by itself.
    case " ${packages[*]} " in *' docker.io '*)
        if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi ;;
    esac
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
    # Its package starts a registry as a service; the tests start their own.
    case " ${packages[*]} " in *' docker-registry '*)
        [ ! -d /run/systemd/system ] || as_root systemctl disable --quiet --now docker-registry ;;
    esac
    # So does this one: a cluster of its own, and a service. Without systemd it is started by nobody but the package.
    case " ${packages[*]} " in *' postgresql '*)
        if [ -d /run/systemd/system ]; then
            as_root systemctl disable --quiet --now postgresql
        elif has service; then
            as_root service postgresql stop >&2 || true
        fi ;;
    esac
}

install_rust() {
    case $rust in
        install)
            curl --proto '=https' --tlsv1.2 -fsS https://static.rust-lang.org/rustup/rustup-init.sh |
                sh -s -- -y --no-modify-path --default-toolchain "$pinned" --profile minimal --component clippy,rustfmt >&2 ;;
        add) rustup toolchain install "$pinned" --profile minimal --component clippy,rustfmt >&2 ;;
    esac
    packaging/cargo.sh --check || fail 'there is still no Rust that is new enough' 'see https://rustup.rs'
}

install_components() {
    export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    has rustup || fail 'rustfmt and clippy are missing, and this Rust is not from rustup' \
        'install them the way this Rust was installed (on Debian: apt-get install rustfmt rust-clippy)'
    # The compiler that is used is the pinned one, where it is here.
    rustup component add --toolchain "$(packaging/cargo.sh --toolchain)" rustfmt clippy >&2
}

install_api_tester() {
    python3 -m venv --clear "$tester"
    "$tester/bin/pip" install --quiet --no-deps --only-binary :all: --require-hashes -r packaging/schemathesis.txt >&2
    cp packaging/schemathesis.txt "$tester/pins"
}

install_tools() {
    local tool
    for tool in "${tools[@]}"; do
        case $tool in
            # Its server and its search are not used, and are most of it.
            mdbook@*) packaging/cargo.sh install --locked --no-default-features "$tool" >&2 ;;
            *) packaging/cargo.sh install --locked "$tool" >&2 ;;
        esac
    done
}

main() {
    local need
    for need in "$@"; do
        case $need in
            image-*) need_image "${need#image-}" ;;
            *) "need_$need" ;;
        esac
    done
    plan
    [ ${#lines[@]} != 0 ] || return 0
    ask
    [ ${#packages[@]} = 0 ] || install_packages
    [ -z "$rust" ] || install_rust
    [ -z "$components" ] || install_components
    [ ${#tools[@]} = 0 ] || install_tools
    [ -z "$tester" ] || install_api_tester
    if [ -n "$engine" ] && ! packaging/engine.sh answers && ! packaging/engine.sh locked; then
        # The package may have started it a moment ago.
        as_root packaging/engine.sh start ${AEGIS_ENGINE_DIR:+"$AEGIS_ENGINE_DIR"}
    fi
}

main "$@"
