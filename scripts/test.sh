#!/usr/bin/env bash
# Runs every test: fetches the small model first (92 MB, once), then builds and tests in release mode.
# What needs the authors' data, which is no part of this repository, runs where ../shared/data holds it, and what opens a page
# where chromium is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
cargo test --release --lib --bins --tests
if [ -d ../shared/data ]; then
  cargo test --release --lib --test it -- --ignored --skip report::
else
  echo "note: without ../shared/data the tests that need the authors' data are left out (shown as ignored)" >&2
fi
if command -v chromium >/dev/null; then
  cargo test --release --test it report:: -- --ignored
else
  echo "note: without chromium the tests that open a page are left out (shown as ignored)" >&2
fi
cargo test --release --doc
