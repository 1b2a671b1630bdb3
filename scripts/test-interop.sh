#!/usr/bin/env bash
# Tests bipo's vectors in other programs: llama.cpp (a GGUF control vector), transformers (bipo.apply of the Python package, and the
# hook of a model card) and torch (`.pt` read and written); what `bipo export` writes in transformers, lm-evaluation-harness and pyvene;
# and python/tests, of which the tests of bipo.apply need torch. Uses SmolLM2-135M, a vector from a short run, Gemma 3 270M, and tiny
# random models.
# Runs on Linux on x86-64 and takes about 12 minutes.
#
# usage: scripts/test-interop.sh [-e VENV] [-m MODEL.gguf]
#   -e  virtual environment with torch, transformers, gguf, accelerate, sentencepiece, lm_eval and pyvene, made if it does not exist
#       (default target/compare-venv, which scripts/compare-pytorch.sh uses too)
#   -m  model (default: the file that scripts/fetch-smollm2.sh fetches)
set -euo pipefail
# A relative path is taken from the folder of the caller. realpath would not do: it leaves a virtual environment by its links.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

venv=
model=
while getopts e:m:h option; do
    case $option in
        e) venv=$(absolute "$OPTARG") ;;
        m) model=$(absolute "$OPTARG") ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv=${venv:-$target/compare-venv}

[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)
gemma=$(sh scripts/fetch-gemma3.sh)
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
if ! "$venv/bin/python" -c 'import torch, transformers, safetensors, gguf, accelerate, sentencepiece, google.protobuf, lm_eval, pyvene' >/dev/null 2>&1; then
    "$venv/bin/pip" install --quiet torch transformers safetensors gguf accelerate sentencepiece protobuf numpy lm_eval pyvene >&2
fi
llamacpp=$(scripts/fetch-llamacpp.sh)
cargo build --release --quiet
work=$target/test-interop
mkdir -p "$work"
# Prints the path of a model's copy with f32 weights. Each model has a copy of its own.
f32_copy() {
    local copy
    copy=$work/model-$(sha256sum <"$1" | cut -c1-16)-f32.gguf
    { [ -f "$copy" ] || "$venv/bin/python" scripts/gguf_to_f32.py "$1" "$copy" >&2; } && echo "$copy"
}
f32_model=$(f32_copy "$model")
gemma_f32_model=$(f32_copy "$gemma")

# The program and the package of this checkout.
PATH="$(realpath "$target/release"):$PATH" PYTHONPATH="$PWD/python"
export PATH PYTHONPATH
"$venv/bin/python" -m unittest discover -s python/tests
"$venv/bin/python" scripts/test_interop.py --bipo "$target/release/bipo" --llamacpp "$llamacpp" --model "$model" \
    --f32-model "$f32_model" --gemma-f32-model "$gemma_f32_model" --work-dir "$work"
# The folder that test_interop.py writes for the model card.
"$venv/bin/python" scripts/test_engines.py --bipo "$target/release/bipo" --hf-model "$work/model" --work-dir "$work/engines"
