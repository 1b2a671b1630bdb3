#!/usr/bin/env bash
# Goes from a fresh clone to steered text: builds bipo, fetches SmolLM2-135M (92 MB), trains on the bundled pairs, and answers one
# question at the magnitudes -1.5, 0 and 1.5. The model goes into bipo's cache directory, where later commands find it, and the vector
# into target/quickstart.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release
scripts/fetch-smollm2.sh >/dev/null
target/release/bipo train --offline --eval-dataset cheerful-heldout --output-dir target/quickstart --overwrite
target/release/bipo steer --offline --vector target/quickstart/steering_vector.safetensors --magnitudes -1.5,0,1.5 --max-new-tokens 60 \
  --prompt "How was your day?"
cat <<'END'

The vector is target/quickstart/steering_vector.safetensors. To go on, put bipo on your path, and name the vector:
  cargo install --path .
  bipo steer --vector target/quickstart/steering_vector.safetensors --prompt "What should I do this weekend?"
Without the first of these commands, write target/release/bipo in place of bipo.
END
