#!/usr/bin/env bash
# Runs `cargo deny check` over the committed lock file. The advisories come from a local directory where
# AEGIS_ADVISORY_DB names one, or one lies at ../shared/advisory-db; else from the live database of RustSec.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
url=$(sed -n 's/^db-urls = \["\(.*\)"\]/\1/p' deny.toml)
database=${AEGIS_ADVISORY_DB:-../shared/advisory-db}
if [ ! -d "$database/crates" ]; then
    [ -z "${AEGIS_ADVISORY_DB:-}" ] || { echo "no advisories in AEGIS_ADVISORY_DB=$AEGIS_ADVISORY_DB" >&2; exit 1; }
    exec packaging/cargo.sh deny --locked check
fi

# cargo-deny only takes a database that it can clone, from an address with a host name: a throw-away repository stands in
# for the address, through a setting of git that holds for this one process.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/source"
cp -r "$database/." "$scratch/source/"
chmod -R u+w "$scratch/source"
rm -rf "$scratch/source/.git"
git -C "$scratch/source" init --quiet --initial-branch=main
git -C "$scratch/source" add --all
git -C "$scratch/source" -c user.name=aegis -c user.email=aegis@localhost -c commit.gpgsign=false \
    commit --quiet --message 'advisories'
sed "s|^\[advisories\]|&\ndb-path = \"$scratch/clone\"\ngit-fetch-with-cli = true|" deny.toml >"$scratch/deny.toml"
echo "advisories: $database" >&2
GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$scratch/source.insteadOf" GIT_CONFIG_VALUE_0=$url \
    packaging/cargo.sh deny --locked --config "$scratch/deny.toml" check
