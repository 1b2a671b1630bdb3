#!/usr/bin/env bash
# Runs the code that uses `unsafe` under the address sanitizer: the library's tests of memory maps, of matrix products and of the code that calls
# them, and the program, which trains with its cache in a file and generates at several magnitudes. Needs nightly Rust. Builds all
# dependencies again, in target/asan.
set -euo pipefail
cd "$(dirname "$0")/.."
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
export RUSTFLAGS=-Zsanitizer=address
# This profile keeps line tables, so that the traces of findings name lines.
flags=(--profile profiling --target "$host" --target-dir target/asan)

cargo +nightly test "${flags[@]}" --lib -- ops:: model:: train:: steering::merge:: steering::vector:: data::
cargo +nightly build "${flags[@]}" --bin bipo
bipo="target/asan/$host/profiling/bipo"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT
printf 'question,matching,not_matching\nHow was it?,It was good.,It was bad.\nWhy?,Because.,Never mind that.\n' >"$work/pairs.csv"
"$bipo" train --quiet --model tests/fixtures/llama --layer 1 --dataset "$work/pairs.csv" --cache-memory 0 --output-dir "$work/out"
"$bipo" steer --quiet --model tests/fixtures/llama --vector "$work/out/steering_vector.safetensors" --magnitudes -2,0,2 \
  --max-new-tokens 8 --prompt "How was it?"
echo "asan: no finding"
