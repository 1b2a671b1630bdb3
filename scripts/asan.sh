#!/usr/bin/env bash
# Runs what uses unsafe code under the address sanitizer: the library's tests of maps, matrix products and what stands on them, and
# the program, which trains with its cache in a file and sweeps. Needs nightly Rust; builds all dependencies again (target/asan).
set -euo pipefail
cd "$(dirname "$0")/.."
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
export RUSTFLAGS=-Zsanitizer=address
# Lines in the traces of findings.
flags=(--profile profiling --target "$host" --target-dir target/asan)

cargo +nightly test "${flags[@]}" --lib -- ops:: activations:: model:: batch:: train:: merge:: vector:: checkpoint:: data::
cargo +nightly build "${flags[@]}" --bin bipo
bipo="target/asan/$host/profiling/bipo"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT
printf 'question,matching,not_matching\nHow was it?,It was good.,It was bad.\nWhy?,Because.,Never mind that.\n' >"$work/pairs.csv"
"$bipo" train --quiet --model tests/fixtures/llama --layer 1 --dataset "$work/pairs.csv" --cache-memory 0 --output-dir "$work/out"
"$bipo" steer --quiet --model tests/fixtures/llama --vector "$work/out/steering_vector.safetensors" --magnitudes -2,0,2 \
  --max-new-tokens 8 --prompt "How was it?"
echo "asan: no finding"
