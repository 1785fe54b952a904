#!/usr/bin/env bash
# Builds an image that only tests need, from the recipe of that name beside this file, as images/build.sh builds those that
# ship: `tests/images/build.sh clients` gives `aegis-test/clients`. One that the engine has is left as it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
name=$1
if [ ! -r "$here/$name/recipe" ]; then
    printf 'tests/images/build.sh: there is no recipe for image %s\n' "$name" >&2
    exit 1
fi
if "$root/packaging/engine.sh" as-member "$root/packaging/engine.sh" has-image "aegis-test/$name"; then exit 0; fi

# The program that builds looks for recipes beside itself.
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/aegis-image.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cp -r "$root"/images/. "$here/$name" "$scratch"

# Packages are unpacked with their owners, which only root may do.
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" "$scratch/build.sh" "$name" >"$scratch/$name.tar"
"$root/packaging/engine.sh" as-member docker import --change "LABEL aegis.test=$name" \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$scratch/$name.tar" "aegis-test/$name"
