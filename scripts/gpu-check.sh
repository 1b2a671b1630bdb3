#!/usr/bin/env bash
# Checks and measures bipo on a machine with a GPU, without a network, in less than 8 minutes. It checks whether the GPU computes
# what the CPU computes. Then it measures speed and memory at the shapes of Llama-2-7B and Mistral-7B with random weights, and the
# same in PyTorch if PyTorch is installed. Prints a table and writes one JSON file. Exits with 1 if a check failed.
#
#   scripts/gpu-check.sh target/release/bipo [--output gpu-check.json] [--model smollm2.gguf] [--golden tests/fixtures/golden]
#   scripts/gpu-check.sh target/release/bipo --device cpu --shapes tiny      # tries the script in seconds, without a GPU
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || { echo "gpu-check: $python not found: install Python 3, or set PYTHON" >&2; exit 2; }
exec "$python" "$(dirname "$0")/gpu_check.py" "$@"
