#!/usr/bin/env bash
# Five real projects run their own test suites in plain `docker run` and under `aegis run`: `compare.sh AEGIS [PROJECT]...`.
# A table shows exit statuses and how many tests passed, failed and were skipped; below it is every test whose result
# differs. Exit status 1 where one differs that `expected` does not name; docs/what-breaks.md explains those that it does.
#
# The projects come from the package registries, with the usual clients as they are set up on this machine. What the clients
# fetch is run in containers only. AEGIS_PROJECTS_SANDBOX names another policy than `ci`; AEGIS_PROJECTS_KEEP a directory
# that is kept, with what was fetched and printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly ALL=(tornado qs tempfile sed mksh)
readonly SECONDS_MAX=2400
readonly ROUNDS_MAX=3

say() { printf '%s\n' "$1" >&2; }

fail() {
    printf 'compare.sh: %s\n' "$1" >&2
    exit 1
}

need() {
    local program
    for program in "$@"; do command -v "$program" >/dev/null || fail "\`$program\` is not installed"; done
}

# Each project: its tree into the directory $1.

# A web framework: servers and clients on loopback, subprocesses, signals, name resolution.
fetch_tornado() {
    need pip
    pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
        --python-version 3.11 --target "$1" tornado==6.4.2
}

# Query strings to objects and back: many small assertions. Its runner comes as an installed dependency.
fetch_qs() {
    need npm
    (cd "$1" && npm pack --silent qs@6.11.2 >/dev/null && tar --strip-components=1 -xf qs-6.11.2.tgz && rm qs-6.11.2.tgz)
    local pinned=(for-each@0.3.3 has-override-mistake@1.0.1 has-property-descriptors@1.0.2 has-symbols@1.0.3 iconv-lite@0.5.2
        mock-property@1.0.3 object-inspect@1.12.3 qs-iconv@1.0.4 safer-buffer@2.1.2 side-channel@1.0.4 tape@5.7.5)
    # The other tools of its developers (linters, publishing) are not installed.
    (cd "$1" && npm pkg delete devDependencies &&
        npm install --loglevel=error --ignore-scripts --no-audit --no-fund --no-package-lock "${pinned[@]}" >/dev/null)
}

# Temporary files: unnamed ones, links below /proc, races of names. Its dependencies are vendored.
fetch_tempfile() {
    need cargo
    local pinned=(tempfile=3.10.1 bitflags=2.6.0 cfg-if=1.0.0 doc-comment=0.3.3 errno=0.3.9 fastrand=2.1.0 libc=0.2.155
        linux-raw-sys=0.4.14 rustix=0.38.34 windows-sys=0.52.0 windows-targets=0.52.6)
    local asked=$1.asked crate
    mkdir -p "$asked/src"
    : >"$asked/src/lib.rs"
    {
        printf '[package]\nname = "asked"\nversion = "0.0.0"\nedition = "2021"\nrust-version = "1.63"\n[workspace]\n[dependencies]\n'
        for crate in "${pinned[@]}"; do printf '%s = "=%s"\n' "${crate%%=*}" "${crate#*=}"; done
    } >"$asked/Cargo.toml"
    (cd "$asked" && CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback cargo vendor --quiet vendor >/dev/null)
    # Import libraries of another system are most of the bytes: the resolver wants to see the crates, nothing builds them.
    for crate in "$asked"/vendor/windows*; do
        find "$crate" -type f ! -name Cargo.toml ! -name .cargo-checksum.json -delete
        mkdir -p "$crate/src"
        : >"$crate/src/lib.rs"
        sed -i -E 's/"files":\{[^}]*\}/"files":{}/' "$crate/.cargo-checksum.json"
    done
    cp -r "$asked/vendor/tempfile/." "$1"
    mv "$asked/vendor" "$1/vendor"
    mkdir -p "$1/.cargo"
    printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' >"$1/.cargo/config.toml"
    rm -r "$asked"
}

# GNU sed: configure, make, and some hundred test programs, most of them gnulib's of single functions of the C library.
fetch_sed() { fetch_debian sed "$1"; }

# A shell with its test scripts: jobs and signals, a terminal of its own, here documents, every kind of expansion.
fetch_mksh() { fetch_debian mksh "$1"; }

# The sources of a package of this distribution as they came from upstream, without the distribution's changes.
fetch_debian() {
    need apt-get
    local apt=$2.apt
    mkdir -p "$apt/lists/partial" "$apt/archive"
    debian_sources >"$apt/sources.list"
    # What is asked of apt stays in this directory: the machine's own lists are not touched.
    local options=(-q -q -o "Dir::Etc::sourcelist=$apt/sources.list" -o 'Dir::Etc::sourceparts=-' -o "Dir::State::lists=$apt/lists"
        -o "Dir::Cache::archives=$apt/archive" -o 'Dir::Cache::pkgcache=' -o 'Dir::Cache::srcpkgcache=' -o 'APT::Sandbox::User=')
    apt-get "${options[@]}" update >&2
    (cd "$apt/archive" && apt-get "${options[@]}" source --download-only "$1" >&2)
    tar --strip-components=1 -C "$2" -xf "$(find "$apt/archive" -name "$1_*.orig.tar.*" ! -name '*.asc' -print -quit)"
    rm -r "$apt"
}

# The machine's own sources of its distribution, as sources of source packages.
debian_sources() {
    local quoted uri base suite
    apt-get update --print-uris | while read -r quoted _; do
        uri=${quoted//\'/}
        case $uri in */debian/dists/* | */ubuntu/dists/*) ;; *) continue ;; esac
        base=${uri%%/dists/*} suite=${uri##*/dists/} suite=${suite%%/*}
        printf 'deb-src %s %s main\n' "$base" "$suite"
    done | sort -u
}

# Each project: image, form of its output, command, and a file that looks like a secret and is needed.
about() {
    secret=''
    case $1 in
        tornado) image=aegis/base form=unittest
            command='python3 -m tornado.test.runtests --verbose'
            secret=tornado/test/test.key ;;
        qs) image=aegis/node form=tap
            command='node_modules/.bin/tape test/*.js' ;;
        tempfile) image=aegis/rust form=cargo
            command='CARGO_HOME=/tmp/cargo cargo test --offline --no-fail-fast' ;;
        sed) image=aegis/base form=automake
            command='./configure --quiet --disable-nls && make -s -j2 && make -s -k check' ;;
        mksh) image=aegis/base form=mksh
            command='sh Build.sh -r >/dev/null 2>&1 && script -qec ./test.sh /dev/null' ;;
        *) fail "there is no project \`$1\`; there are: ${ALL[*]}" ;;
    esac
}

# Plain: the tree of the caller, mounted, as an ordinary user with a name; everything else as the engine has it.
plainly() {
    local tree=$1 log=$2
    chown -R 1000:1000 "$tree"
    timeout "$SECONDS_MAX" docker run --rm --label aegis.test=projects --user 1000:1000 \
        --env HOME=/tmp --env USER=task --env LOGNAME=task --env LANG=C.UTF-8 \
        --volume "$tree:/workspace" --workdir /workspace "$image" sh -c "$command" >"$log" 2>&1 </dev/null
}

sandboxed() {
    local tree=$1 log=$2 flags=(--sandbox "$sandbox")
    if [ -n "$secret" ]; then
        printf 'extends = "%s"\n[filesystem]\ninclude_secrets = ["%s"]\n' "$sandbox" "$secret" >"$scratch/$project.toml"
        flags=(--sandbox "$scratch/$project.toml" --include-secret "$secret")
    fi
    "$aegis" run --quiet "${flags[@]}" --workspace "$tree" --image "$image" --timeout "${SECONDS_MAX}s" \
        -- sh -c "$command" >"$log" 2>&1 </dev/null
}

# Runs a project one way and says what came of it in one line: status, counts, seconds.
run() {
    local way=$1 project=$2 status=0 begun=$SECONDS
    local tree=$scratch/$project.$way log=$scratch/$project.$way.log
    cp -a "$scratch/$project" "$tree"
    "$way" "$tree" "$log" || status=$?
    python3 "$here/results.py" "$form" "$log" >"$scratch/$project.$way.results"
    rm -rf "$tree"
    printf '%s %s %s\n' "$status" "$(head -n 1 "$scratch/$project.$way.results")" "$((SECONDS - begun))"
}

row() { printf '%-9s %-10s %6s %7s %7s %8s %8s\n' "$@"; }

compare() {
    local project=$1 image form command secret
    about "$project"
    if [ ! -d "$scratch/$project" ]; then
        say "fetching $project"
        mkdir "$scratch/$project"
        "fetch_$project" "$scratch/$project"
    fi
    # What differs once may be chance on a busy machine: only what differs in every round does.
    local round
    for ((round = 1; round <= ROUNDS_MAX; round++)); do
        once "$project"
        if [ "$round" = 1 ]; then
            mv "$scratch/$project.now" "$scratch/$project.differences"
        else
            grep -xF -f "$scratch/$project.now" "$scratch/$project.differences" >"$scratch/$project.both" || true
            mv "$scratch/$project.both" "$scratch/$project.differences"
        fi
        [ -s "$scratch/$project.differences" ] || break
    done
    tell "$project"
}

# Runs a project both ways: a row for each, and what differs.
once() {
    local project=$1 plain inside
    say "running $project: docker run"
    plain=$(run plainly "$project")
    say "running $project: aegis run --sandbox $sandbox"
    inside=$(run sandboxed "$project")
    # shellcheck disable=SC2086  # words of a line
    { row "$project" 'docker run' $plain; row '' 'aegis run' $inside; } >>"$scratch/table"
    case "$plain $inside" in *'?'*) fail "$project: its output was not understood: see $scratch/$project.*.log" ;; esac
    {
        [ "${plain%% *}" = "${inside%% *}" ] || printf 'status %s, then %s\n' "${plain%% *}" "${inside%% *}"
        diff <(tail -n +2 "$scratch/$project.plainly.results") <(tail -n +2 "$scratch/$project.sandboxed.results") |
            sed -n -e 's/^< /only plainly: /p' -e 's/^> /only sandboxed: /p'
    } >"$scratch/$project.now" || true
}

# Says what differs, and counts what is not expected.
tell() {
    local project=$1 line
    while read -r line; do
        if grep -qxF "$project: $line" "$here/expected"; then
            line="$line (expected)"
        else
            unexpected=$((unexpected + 1))
        fi
        printf '%s: %s\n' "$project" "$line" >>"$scratch/told"
    done <"$scratch/$project.differences"
}

[ $# -gt 0 ] || fail 'usage: compare.sh AEGIS [PROJECT]...'
aegis=$1
shift
[ $# -gt 0 ] || set -- "${ALL[@]}"
need docker python3 tar
[ "$(id -u)" = 0 ] || fail 'copies are given to another user, which only root may do'
sandbox=${AEGIS_PROJECTS_SANDBOX:-ci}
unexpected=0
if [ -n "${AEGIS_PROJECTS_KEEP:-}" ]; then
    scratch=$AEGIS_PROJECTS_KEEP
    mkdir -p "$scratch"
else
    scratch=$(mktemp -d /var/tmp/aegis-projects.XXXXXX)
    trap 'rm -rf "$scratch"' EXIT
fi
readonly scratch sandbox aegis
: >"$scratch/table"
: >"$scratch/told"

for project in "$@"; do compare "$project"; done
row project way status passed failed skipped seconds
cat "$scratch/table"
if [ -s "$scratch/told" ]; then
    printf '\n'
    cat "$scratch/told"
fi
[ "$unexpected" = 0 ] || fail "$unexpected differences that are not explained"
