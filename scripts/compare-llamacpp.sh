#!/usr/bin/env bash
# Compares the speed of `bipo steer` with llama.cpp (scripts/llamacpp_sweep.c): SmolLM2-135M, one vector at layer 14, five
# magnitudes, 64 tokens, greedy, 2 threads. Prints a table. Run it on an idle machine with Linux on x86-64.
#
# usage: scripts/compare-llamacpp.sh [-m MODEL.gguf] [-v VECTOR.safetensors] [-p PYTHON] [-- FLAGS OF compare_llamacpp.py]
#   -m  model (default: the file that scripts/fetch-smollm2.sh fetches)
#   -v  steering vector (default: the vector of a short run of bipo train)
#   -p  a Python with the package gguf: llama.cpp is then also measured with the f32 weights that bipo computes with
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
model=
vector=
python=${PYTHON:-python3}
while getopts m:v:p:h option; do
    case $option in
        m) model=$OPTARG ;;
        v) vector=$OPTARG ;;
        p) python=$OPTARG ;;
        *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)
work=$target/compare-llamacpp
mkdir -p "$work"
work=$(cd "$work" && pwd)
llamacpp=$(scripts/fetch-llamacpp.sh)

f32=()
if "$python" -c 'import gguf' 2>/dev/null; then
    [ -f "$work/model-f32.gguf" ] || "$python" scripts/gguf_to_f32.py "$model" "$work/model-f32.gguf"
    f32=(--f32-model "$work/model-f32.gguf")
fi
cargo build --release --quiet

"$python" scripts/compare_llamacpp.py --bipo "$target/release/bipo" --sweep "$llamacpp/llamacpp_sweep" --backends "$llamacpp/bins" --model "$model" \
    --work-dir "$work" --release "$(cat "$llamacpp/release")" ${vector:+--vector "$vector"} "${f32[@]}" "$@"
