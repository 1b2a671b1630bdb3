#!/usr/bin/env bash
# Compares bipo with the plain PyTorch reference (scripts/reference_bipo.py): SmolLM2-135M, layer 14, the first 200 rows of a
# CSV, batch 4, f32, 2 threads, 5 epochs; then text at five magnitudes. Prints a table. Run it on an idle machine.
#
# usage: scripts/compare-pytorch.sh [-e VENV] [-m MODEL.gguf] [-d DATASET.csv] [-- FLAGS OF compare_pytorch.py]
#   -e  virtual environment, made if it does not exist (default target/compare-venv). If it can already import torch,
#       transformers, gguf and accelerate, nothing is installed. On Linux, pip's default torch downloads gigabytes of
#       CUDA libraries; install PyTorch's CPU build into the environment first to avoid that.
#   -m  model (default: the file that scripts/fetch-smollm2.sh fetches)
#   -d  dataset (default data/cheerful-train.csv)
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${CARGO_TARGET_DIR:-target}/compare-venv
model=
dataset=data/cheerful-train.csv
while getopts e:m:d:h option; do
    case $option in
        e) venv=$OPTARG ;;
        m) model=$OPTARG ;;
        d) dataset=$OPTARG ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

[ -f "$dataset" ] || { echo "compare-pytorch: no such file: $dataset" >&2; exit 2; }
[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
if ! "$venv/bin/python" -c 'import torch, transformers, safetensors, gguf, accelerate' 2>/dev/null; then
    "$venv/bin/pip" install --quiet torch transformers safetensors gguf accelerate numpy >&2
fi
cargo build --release --quiet
# No benchmark's name matches this filter, so only the machine's ceilings are measured.
gflops=$(RAYON_NUM_THREADS=2 cargo bench --quiet --bench speed -- ceilings | sed -n 's/^100 %: matrix products \([0-9]*\) .*/\1/p')

"$venv/bin/python" scripts/compare_pytorch.py --bipo "${CARGO_TARGET_DIR:-target}/release/bipo" \
    --python "$venv/bin/python" --model "$model" --dataset "$dataset" \
    --work-dir "${CARGO_TARGET_DIR:-target}/compare-pytorch" --matmul-gflops "$gflops" "$@"
