#!/usr/bin/env bash
# Adds to DIST, which has the archives and wheels of all targets, what is made from them or from the sources alone: the source
# distribution, the Homebrew formula, and SHA256SUMS, the checksums of all files.
#
# usage: scripts/release-files.sh REPOSITORY DIST      REPOSITORY is an address, such as https://github.com/owner/bipo
set -euo pipefail
[ $# = 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dist=$(realpath "$2")
cd "$(dirname "$0")/.."

scripts/maturin.sh sdist --out "$dist"
scripts/homebrew.sh "$1" "$dist" >"$dist/bipo.rb"
cd "$dist"
rm -f SHA256SUMS
sha256sum -- * >SHA256SUMS
