#!/usr/bin/env bash
# Runs the cargo that can build Aegis: the one of this shell, rustup's where the shell has not heard of it yet, or rustup's
# stable toolchain where the default one is too old. `cargo.sh --check` only says whether there is one.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

enough() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ]
}

command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
if ! enough; then
    export RUSTUP_TOOLCHAIN=stable
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
if ! enough; then
    [ "${1:-}" = --check ] || printf 'cargo %s or newer is not here\nhint: packaging/bootstrap.sh build\n' "$wanted" >&2
    exit 1
fi
[ "${1:-}" != --check ] || exit 0
exec cargo "$@"
