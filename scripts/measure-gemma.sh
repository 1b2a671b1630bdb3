#!/usr/bin/env bash
# Trains a vector for Gemma 3 270M, real weights, on the bundled pairs `cheerful`, and prints which share of the held-out pairs it moves the
# right way in each direction. Exits with 1 if one of them is less than 90 %. Fetches the model (238 MB) if it is not there. Training
# takes 3.5 minutes on two idle cores.
#
#   scripts/measure-gemma.sh [PROGRAM]     # default: the bipo of this checkout, which it builds
set -euo pipefail
bipo=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-gemma3.sh >/dev/null
if [ -z "$bipo" ]; then
  cargo build --release --locked --quiet
  bipo="$(realpath "${CARGO_TARGET_DIR:-target}")/release/bipo"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bipo" train --json --offline --model gemma-3-270m --dataset cheerful --eval-dataset cheerful-heldout --epochs 3 --warmup-steps 10 \
  --output-dir "$work/v" >"$work/train.json"
"$bipo" inspect --json "$work/v/steering_vector.safetensors" >"$work/vector.json"
python3 - "$work/train.json" "$work/vector.json" <<'PY'
import json, sys
run, inspected = (json.load(open(path)) for path in sys.argv[1:])
(vector,) = inspected["vectors"]
training = vector["training"]
shares = {direction: training["heldout"][f"{direction}_right"] for direction in ("positive", "negative")}
print(f"{run['steps']} steps, norm {run['vector_norm']:.2f}")
for direction, share in shares.items():
    margin = training["heldout"][f"{direction}_margin"]
    print(f"{direction}: {share:.0%} of {training['eval_dataset']['pairs']} held-out pairs move the right way, mean margin {margin:+.3f}")
sys.exit(0 if all(share >= 0.9 for share in shares.values()) else 1)
PY
