#!/usr/bin/env bash
# Builds those of the named images that the engine does not have: `image.sh target/release/aegis base minimal`.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
aegis=$1
shift

# Packages are unpacked with their owners, which only root may do.
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

for name in "$@"; do
    if "$here/engine.sh" as-member "$here/engine.sh" has-image "aegis/$name"; then continue; fi
    "${root[@]}" "$aegis" image build "$name"
done
