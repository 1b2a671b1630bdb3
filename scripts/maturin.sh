#!/usr/bin/env bash
# Runs maturin, which makes the wheel and the source distribution, in the one version that tests and releases use. Where it is missing,
# pip installs it into the build folder first.
#
# usage: scripts/maturin.sh ARGUMENTS...      maturin runs in the root of the repository, from which it takes relative paths
# PYTHON names the Python, which has pip (default: python3, or python).
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.16.0
folder=${CARGO_TARGET_DIR:-target}/wheel/maturin
if [ "$("$folder/bin/maturin" --version 2>/dev/null)" != "maturin $version" ]; then
  python=${PYTHON:-$(command -v python3 || command -v python)} || { echo "maturin: python3 not found: install it" >&2; exit 1; }
  rm -rf "$folder"
  "$python" -m pip install --quiet --disable-pip-version-check --target "$folder" "maturin==$version" >&2
fi
exec "$folder/bin/maturin" "$@"
