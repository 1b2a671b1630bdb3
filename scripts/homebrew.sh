#!/usr/bin/env bash
# Prints the Homebrew formula of a release: packaging/homebrew/bipo.rb with the version, the address of the repository, and the SHA-256
# of each archive that scripts/package.sh wrote into DIST.
#
# usage: scripts/homebrew.sh REPOSITORY DIST      REPOSITORY is an address, such as https://github.com/owner/bipo
set -euo pipefail
[ $# = 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dist=$(realpath "$2")
cd "$(dirname "$0")/.."

version=$(scripts/version.sh)
formula=$(tail -n +2 packaging/homebrew/bipo.rb) # without the line that says that it is a template
mapfile -t targets < <(grep -o '@SHA256:[^@]*' packaging/homebrew/bipo.rb | cut -d: -f2)
for target in "${targets[@]}"; do
  archive=$dist/bipo-v$version-$target.tar.gz
  [ -f "$archive" ] || { echo "homebrew: $archive not found: scripts/package.sh writes it" >&2; exit 1; }
  formula=${formula//@SHA256:$target@/$(sha256sum <"$archive" | cut -d' ' -f1)}
done
formula=${formula//@VERSION@/$version}
printf '%s\n' "${formula//@REPOSITORY@/$1}"
