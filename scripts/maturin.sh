#!/usr/bin/env bash
# Runs maturin, which makes the wheel and the source distribution, in the one version that tests and releases use. Where it is missing,
# pip installs it into the build folder first.
#
# usage: scripts/maturin.sh ARGUMENTS...      maturin runs in the root of the repository, from which it takes relative paths
# PYTHON names the Python, which has pip (default: python3, or python). REPOSITORY, such as https://github.com/owner/bipo, and REF, a tag or
# commit there (default: the tag of this version), say where the links of the README lead on a page of a package index.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.16.0
folder=${CARGO_TARGET_DIR:-target}/wheel/maturin
if [ "$("$folder/bin/maturin" --version 2>/dev/null)" != "maturin $version" ]; then
  python=${PYTHON:-$(command -v python3 || command -v python)} || { echo "maturin: python3 not found: install it" >&2; exit 1; }
  rm -rf "$folder"
  "$python" -m pip install --quiet --disable-pip-version-check --target "$folder" "maturin==$version" >&2
fi
if [ -n "${REPOSITORY:-}" ]; then
  ref=${REF:-v$(scripts/version.sh)}
  kept=$(mktemp -d)
  cp README.md pyproject.toml "$kept"
  trap 'cp "$kept/README.md" "$kept/pyproject.toml" . && rm -r "$kept"' EXIT
  link='[A-Za-z][A-Za-z0-9_./-]*'
  sed -E "s|(!\[[^]]*\])\(($link)\)|\1($REPOSITORY/raw/$ref/\2)|g; s|\]\(($link(#[^)]*)?)\)|]($REPOSITORY/blob/$ref/\1)|g" \
    "$kept/README.md" >README.md
  printf '\n[project.urls]\nRepository = "%s"\nDocumentation = "%s/tree/%s/docs"\n' "$REPOSITORY" "$REPOSITORY" "$ref" >>pyproject.toml
fi
"$folder/bin/maturin" "$@"
