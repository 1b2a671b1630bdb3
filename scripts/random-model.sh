#!/usr/bin/env bash
# Writes a model with random weights (scripts/random_model.py). It has the speed and memory of a real model of its shape.
#
# usage: scripts/random-model.sh --shape NAME [--dtype bf16|f16|f32] [--seed N] DIR
#        scripts/random-model.sh --check    writes the tiny shapes, and trains and generates with them, using target/release/bipo
# NAME is mistral-7b, llama-2-7b, smollm2-135m, gemma-2-9b, qwen3-30b-a3b, tiny, tiny-gemma2 or tiny-qwen3-moe.
# Needs a Python with numpy; PYTHON names it (default python3). mistral-7b in bf16 takes 14.5 GB on disk.
set -euo pipefail

python=${PYTHON:-python3}
fail() { echo "random-model: $1" >&2; exit 1; }
"$python" -c 'import numpy' 2>/dev/null || fail "$python has no numpy: install it, or set PYTHON to a Python that has it"
case ${1:-} in
    --check) [ $# = 1 ] || fail "--check takes no other argument" ;;
    -h | "") sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) exec "$python" "$(dirname "$0")/random_model.py" "$@" ;;
esac
cd "$(dirname "$0")/.."

bipo=${CARGO_TARGET_DIR:-target}/release/bipo
[ -x "$bipo" ] || cargo build --release --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for shape_dtype in tiny/f32 tiny/f16 tiny/bf16 tiny-gemma2/f32 tiny-gemma2/bf16 tiny-qwen3-moe/f32; do
    shape=${shape_dtype%/*} dtype=${shape_dtype#*/}
    model=$work/$shape/$dtype
    "$python" scripts/random_model.py --shape "$shape" --dtype "$dtype" "$model"
    "$bipo" train --quiet --offline --model "$model" --device cpu --layer 1 --limit 8 --batch-size 4 --max-steps 2 \
        --warmup-steps 0 --output-dir "$work/run" --overwrite --json >"$work/train.json"
    "$bipo" steer --quiet --offline --model "$model" --device cpu --vector "$work/run/steering_vector.safetensors" \
        --magnitudes -2,0,2 --max-new-tokens 4 --prompt "What is NATO?" --json >"$work/steer.json"
    "$python" - "$work" <<'PY' || fail "$shape in $dtype: bipo did not train or sweep as expected"
import json, math, pathlib, sys
train, steer = (json.loads((pathlib.Path(sys.argv[1]) / name).read_text()) for name in ("train.json", "steer.json"))
steps = [json.loads(line) for line in (pathlib.Path(sys.argv[1]) / "run/metrics.jsonl").read_text().splitlines()]
assert abs(steps[0]["loss"] - math.log(2)) < 1e-9 and steps[0]["grad_norm"] > 0, steps[0]
assert train["steps"] == 2 and math.isfinite(train["final_loss"]) and train["vector_norm"] > 0, train
assert [len(result["token_ids"]) for result in steer["results"]] == [4, 4, 4], steer
PY
    echo "random-model: $shape in $dtype: trained 2 steps, swept 3 magnitudes" >&2
done
