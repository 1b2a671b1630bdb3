#!/usr/bin/env bash
# Runs every test: fetches the small model first (92 MB, once), then builds and tests in release mode.
# The authors' recorded run and data are no part of this repository: their tests run where ../shared holds them. All tests
# run there, those that open a page in Chromium too; elsewhere these run where chromium is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
if [ -d ../shared/golden ] && [ -d ../shared/data ]; then
  cargo test --release --lib --bins --tests -- --include-ignored
else
  echo "note: without ../shared the tests against the authors' recorded run are left out (shown as ignored)" >&2
  cargo test --release --lib --bins --tests
  if command -v chromium >/dev/null; then
    cargo test --release --test it report:: -- --ignored
  else
    echo "note: without chromium the tests that open a page are left out (shown as ignored)" >&2
  fi
fi
cargo test --release --doc
