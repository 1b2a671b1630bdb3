#!/usr/bin/env bash
# Measures the engine that decodes, with the small model: a sweep of 50 prompts at five magnitudes, 16 clients of a server one after
# another and together, and the first token of a short prompt while 15 other texts are under way. Run it on an idle machine. Other
# builds of bipo run the sweep in turns with this one, and their texts are compared.
#
#   [TURNS=3] [PAIRS=data/cheerful-train.csv] scripts/measure-engine.sh [OTHER-BIPO...]
#
# The prompts are the first 50 of the column `question` of PAIRS.
set -euo pipefail
for other in "$@"; do [ -x "$other" ] || { echo "measure-engine: no such program: $other" >&2; exit 2; }; done
others=()
for other in "$@"; do others+=("$(realpath "$other")"); done
[ -z "${PAIRS:-}" ] || PAIRS=$(realpath "$PAIRS")
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
cargo build --release --locked --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bipo="$(realpath "${CARGO_TARGET_DIR:-target}")/release/bipo"
"$bipo" train --quiet --method caa --dataset formal --limit 8 --output-dir "$work/v" >/dev/null
python3 scripts/measure_engine.py "$work/v/steering_vector.safetensors" "${PAIRS:-data/cheerful-train.csv}" "$bipo" ${others[@]+"${others[@]}"}
