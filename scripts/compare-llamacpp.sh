#!/usr/bin/env bash
# Compares the speed of `bipo steer` with llama.cpp (scripts/llamacpp_sweep.c): SmolLM2-135M, one vector at layer 14, five
# magnitudes, 64 tokens, greedy, 2 threads. Prints a table. Run it on an idle machine with Linux on x86-64.
#
# usage: scripts/compare-llamacpp.sh [-m MODEL.gguf] [-v VECTOR.safetensors] [-p PYTHON] [-- FLAGS OF compare_llamacpp.py]
#   -m  model (default: the file that scripts/fetch-smollm2.sh fetches)
#   -v  steering vector (default: the vector of a short run of bipo train)
#   -p  a Python with the package gguf: llama.cpp is then also measured with the f32 weights that bipo computes with
set -euo pipefail
# A relative path is taken from the folder of the caller. realpath would not do: it leaves a virtual environment by its links.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

model=
vector=
python=${PYTHON:-python3}
while getopts m:v:p:h option; do
    case $option in
        m) model=$(absolute "$OPTARG") ;;
        v) vector=$(absolute "$OPTARG") ;;
        p) python=$OPTARG; [[ $python != */* ]] || python=$(absolute "$python") ;;
        *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
caller=$PWD
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(realpath "${CARGO_TARGET_DIR:-target}")

[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)
work=$target/compare-llamacpp
mkdir -p "$work"
llamacpp=$(scripts/fetch-llamacpp.sh)

f32=()
if "$python" -c 'import gguf' 2>/dev/null; then
    # Each model has a copy of its own.
    f32_model=$work/model-$(sha256sum <"$model" | cut -c1-16)-f32.gguf
    [ -f "$f32_model" ] || "$python" scripts/gguf_to_f32.py "$model" "$f32_model"
    f32=(--f32-model "$f32_model")
fi
cargo build --release --quiet

cd "$caller"
"$python" "$root/scripts/compare_llamacpp.py" --bipo "$target/release/bipo" --sweep "$llamacpp/llamacpp_sweep" --backends "$llamacpp/bins" --model "$model" \
    --work-dir "$work" --release "$(cat "$llamacpp/release")" ${vector:+--vector "$vector"} "${f32[@]}" "$@"
