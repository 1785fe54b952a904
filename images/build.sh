#!/usr/bin/env bash
# Writes the file tree of one image as a tar to standard output: `images/build.sh base | docker import - aegis/base`.
# It is made from the distribution's packages, through this host's own package sources, without a container registry.
# The same packages give the same bytes. Nothing of the host goes in.
#
# AEGIS_IMAGE_SOURCES names a file of apt sources (one-line form) to use instead of the host's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

# Every file younger than this gets this time: 2025-01-01. Python then checks its compiled files by content, not by time.
export SOURCE_DATE_EPOCH=1735689600
export LC_ALL=C.UTF-8
umask 022

fail() {
    printf 'images/build.sh: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
    exit 1
}

# Reads a recipe into `variant`, `packages` and `finish`; a recipe may begin from another.
read_recipe() {
    local file=$here/$1/recipe word value
    [ -r "$file" ] || fail "there is no recipe for image \`$1\`" "recipes are: $(recipes)"
    while read -r word value; do
        case $word in
            '' | '#'*) ;;
            from) read_recipe "$value" ;;
            variant) variant=$value ;;
            package) packages+=("$value") ;;
            finish) finish=$value ;;
            *) fail "$file: \`$word\` is not a word of a recipe" ;;
        esac
    done <"$file"
}

recipes() {
    local file
    for file in "$here"/*/recipe; do
        file=${file%/recipe}
        printf '%s ' "${file##*/}"
    done
}

# The host's sources of its own distribution, in one-line form. Other people's repositories stay out, so that `nodejs` is
# the distribution's. `--print-uris` names every source without fetching anything, also where no list was ever fetched.
host_sources() {
    local quoted uri suite
    command -v apt-get >/dev/null || return 0
    # shellcheck source=/dev/null
    . /etc/os-release
    apt-get update --print-uris | while read -r quoted _; do
        uri=${quoted//\'/}
        suite=${uri##*/dists/} suite=${suite%%/*}
        case $suite in "${VERSION_CODENAME:-}" | "${VERSION_CODENAME:-}-updates" | "${VERSION_CODENAME:-}-security") ;; *) continue ;; esac
        case $ID:${uri%%/dists/*} in
            debian:*/debian | debian:*/debian-security) printf 'deb %s %s main\n' "${uri%%/dists/*}" "$suite" ;;
            ubuntu:*/ubuntu | ubuntu:*/ubuntu-ports) printf 'deb %s %s main universe\n' "${uri%%/dists/*}" "$suite" ;;
        esac
    done | sort -u
}

# What differs between two builds, and what no sandbox needs, goes. Java's packages want a directory of manuals to be there
# while they are set up, for links to what was left out.
tidy() {
    rm -rf "$tree"/var/lib/apt "$tree"/var/cache/* "$tree"/var/log/* "$tree"/var/lib/dbus "$tree"/var/lib/systemd \
        "$tree"/usr/share/man "$tree"/var/lib/dpkg/*-old "$tree"/etc/apt "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$tree"/etc/*- \
        "$tree"/etc/machine-id "${tree:?}"/dev/* "${tree:?}"/run/* "${tree:?}"/tmp/*
    find "$tree" -xdev -type f -perm /6000 -exec chmod ug-s {} +
}

# Keeps nothing but busybox, a link for each of its applets, its licence and two names.
only_busybox() {
    local whole=$tree program applet
    tree=$whole/only
    mkdir -p "$tree"/{bin,etc,sbin,usr/bin,usr/sbin,usr/share/doc/busybox-static}
    program=$(find "$whole/bin/busybox" "$whole/usr/bin/busybox" -type f -print -quit 2>/dev/null || true)
    install -m 0755 "$program" "$tree/bin/busybox"
    install -m 0644 "$whole/usr/share/doc/busybox-static/copyright" "$tree/usr/share/doc/busybox-static/"
    for applet in $("$tree/bin/busybox" --list-full); do
        [ "$applet" = bin/busybox ] || ln -s /bin/busybox "$tree/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$tree/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
}

# An engine makes missing mount points in the container's own layer; here they are in the image.
mount_points() {
    mkdir -p "$tree"/{dev/shm,etc,proc,run/home,sys,tmp}
    chmod 1777 "$tree/tmp"
    local file
    for file in hostname hosts resolv.conf; do
        rm -f "$tree/etc/$file"
        : >"$tree/etc/$file"
    done
}

fetch_packages() {
    local sources include
    if [ -z "${AEGIS_IMAGE_SOURCES:-}" ]; then
        sources=$(host_sources)
    elif [ -r "$AEGIS_IMAGE_SOURCES" ]; then
        sources=$(<"$AEGIS_IMAGE_SOURCES")
    else
        fail "AEGIS_IMAGE_SOURCES names \`$AEGIS_IMAGE_SOURCES\`, which cannot be read"
    fi
    [ -n "$sources" ] || fail 'this host has no package sources of Debian or Ubuntu' \
        'name a file of apt sources in AEGIS_IMAGE_SOURCES'
    include=$(IFS=,; printf '%s' "${packages[*]}")
    printf '%s\n' "$sources" | mmdebstrap --quiet --format=directory --variant="$variant" --include="$include" \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/bin/*-lto-dump-*' \
        --aptopt='Acquire::Languages "none"' \
        --aptopt='APT::Install-Recommends "false"' \
        --essential-hook="mkdir -p '$tree/usr/share/man/man1'" \
        '' "$tree" - >&2
}

build() {
    local variant='' packages=() finish=tidy tree
    read_recipe "$1"
    command -v mmdebstrap >/dev/null || fail 'mmdebstrap is not installed' 'apt-get install mmdebstrap'
    [ "$(id -u)" = 0 ] || fail 'only root can unpack packages with their owners' "sudo $0 $1"
    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/aegis-image.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    tree=$scratch/tree
    fetch_packages
    "$finish"
    mount_points
    tar --create --directory="$tree" --sort=name --format=gnu --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime .
}

case ${1:-} in
    '' | -*) fail 'which image?' "images/build.sh NAME >NAME.tar, where NAME is one of: $(recipes)" ;;
esac
[ ! -t 1 ] || fail 'a tar does not belong on a terminal' "images/build.sh $1 >$1.tar"
build "$1"
