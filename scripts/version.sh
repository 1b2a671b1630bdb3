#!/usr/bin/env bash
# Prints bipo's version. With a tag as argument, fails unless the tag is that version (v1.2.3) and CHANGELOG.md has a heading for it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "version: Cargo.toml has no version" >&2; exit 1; }
if [ -n "${1:-}" ]; then
  [ "$1" = "v$version" ] || { echo "version: the tag is $1, but Cargo.toml says $version: tag v$version" >&2; exit 1; }
  grep -q "^## $version\b" CHANGELOG.md || { echo "version: CHANGELOG.md has no heading \"## $version\"" >&2; exit 1; }
fi
echo "$version"
