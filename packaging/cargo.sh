#!/usr/bin/env bash
# Runs the cargo that builds Aegis: rustup's of the version that CI uses, where it is here; else the shell's own, where it is
# new enough. `cargo.sh --check` only says whether there is one, `cargo.sh --pinned` which version CI uses, `cargo.sh
# --toolchain` which toolchain of rustup that is.
set -euo pipefail

readonly PINNED=1.95.0

cd "$(dirname "${BASH_SOURCE[0]}")/.."
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

enough() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ]
}

if [ "${1:-}" = --pinned ]; then
    echo "$PINNED"
    exit 0
fi
# A shell that is older than the installation does not have rustup's programs on its path.
command -v rustup >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
if rustup toolchain list 2>/dev/null | grep -q "^$PINNED-"; then
    export RUSTUP_TOOLCHAIN=$PINNED
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
if ! enough; then
    [ "${1:-}" = --check ] || printf 'cargo %s or newer is not here\nhint: packaging/bootstrap.sh build\n' "$wanted" >&2
    exit 1
fi
case ${1:-} in
    --check) exit 0 ;;
    --toolchain) rustup show active-toolchain | cut -d' ' -f1; exit ;;
esac
exec cargo "$@"
