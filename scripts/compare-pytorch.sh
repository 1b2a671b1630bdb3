#!/usr/bin/env bash
# Compares bipo with the plain PyTorch reference (scripts/reference_bipo.py): SmolLM2-135M, layer 14, the first 200 rows of a
# CSV, batch 4, f32, 2 threads, 5 epochs; a step in bf16; then text at five magnitudes. Prints a table. Run it on an idle machine.
#
# usage: scripts/compare-pytorch.sh [-e VENV] [-m MODEL.gguf] [-d DATASET.csv] [-- FLAGS OF compare_pytorch.py]
#   -e  virtual environment, made if it does not exist (default target/compare-venv). If it can already import torch,
#       transformers, gguf and accelerate, nothing is installed. On Linux, pip's default torch downloads gigabytes of
#       CUDA libraries; install PyTorch's CPU build into the environment first to avoid that.
#   -m  model (default: the file that scripts/fetch-smollm2.sh fetches)
#   -d  dataset (default data/cheerful-train.csv)
set -euo pipefail
# A relative path is taken from the folder of the caller. realpath would not do: it leaves a virtual environment by its links.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

venv=
model=
dataset=
while getopts e:m:d:h option; do
    case $option in
        e) venv=$(absolute "$OPTARG") ;;
        m) model=$(absolute "$OPTARG") ;;
        d) dataset=$(absolute "$OPTARG") ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
caller=$PWD
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(realpath "${CARGO_TARGET_DIR:-target}")
venv=${venv:-$target/compare-venv}
dataset=${dataset:-$root/data/cheerful-train.csv}

[ -f "$dataset" ] || { echo "compare-pytorch: no such file: $dataset" >&2; exit 2; }
[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
if ! "$venv/bin/python" -c 'import torch, transformers, safetensors, gguf, accelerate' 2>/dev/null; then
    "$venv/bin/pip" install --quiet torch transformers safetensors gguf accelerate numpy >&2
fi
cargo build --release --quiet
# No benchmark's name matches this filter, so only the machine's ceilings are measured.
gflops=$(RAYON_NUM_THREADS=2 cargo bench --quiet --bench speed -- ceilings | sed -n 's/^100 %: matrix products \([0-9]*\) .*/\1/p')

cd "$caller"
"$venv/bin/python" "$root/scripts/compare_pytorch.py" --bipo "$target/release/bipo" --python "$venv/bin/python" --model "$model" \
    --dataset "$dataset" --work-dir "$target/compare-pytorch" --matmul-gflops "$gflops" "$@"
