#!/usr/bin/env bash
# Goes from a fresh clone to steered text: builds bipo, fetches SmolLM2-135M (92 MB), trains on the bundled pairs, and answers one
# question at the magnitudes -1.5, 0 and 1.5.
set -euo pipefail
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
cargo build --release
scripts/fetch-smollm2.sh >/dev/null
target/release/bipo train --offline --eval-dataset cheerful-heldout --output-dir bipo_output --overwrite
target/release/bipo steer --offline --magnitudes -1.5,0,1.5 --max-new-tokens 60 --prompt "How was your day?"
