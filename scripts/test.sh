#!/usr/bin/env bash
# Runs every test. Fetches the two small models first (92 and 238 MB, once), then builds and tests in release mode. Tests that need the authors'
# data, which is not part of this repository, run only if the data is in ../shared/data. Tests that open a web page run only if
# chromium is installed, those of the playground only if node is, too.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
scripts/fetch-gemma3.sh >/dev/null
cargo test --release --lib --bins --tests
if [ -d ../shared/data ]; then
  cargo test --release --lib --test it -- --ignored --skip report::
else
  echo "note: the tests that need the authors' data are skipped (shown as ignored), because ../shared/data does not exist" >&2
fi
if command -v chromium >/dev/null; then
  cargo test --release --test it report:: -- --ignored
  if command -v node >/dev/null; then
    node tests/playground/views.mjs
    node tests/playground/conditions.mjs
  else
    echo "note: the tests of the playground are skipped, because node is not installed" >&2
  fi
else
  echo "note: the tests that open a web page are skipped (shown as ignored), because chromium is not installed" >&2
fi
cargo test --release --doc
