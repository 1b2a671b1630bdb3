#!/usr/bin/env bash
# Makes kernels/*.ptx from kernels/*.cu, as they are committed: `scripts/kernels.sh`. With --check changes nothing and exits 1
# where they differ from what the sources give. Takes nvcc 13.0 (NVCC, else the one on the PATH): another release writes other
# bytes. Without nvcc, --check can only compare the sources with the hash that each PTX carries, and says so.
set -euo pipefail
cd "$(dirname "$0")/../kernels"
export LC_ALL=C

nvcc=${NVCC:-nvcc}
check=no
[ "${1:-}" = --check ] && check=yes
header() { echo "// Made by scripts/kernels.sh from sources with SHA-256 $(cat "$1" ./*.cuh | sha256sum | cut -d ' ' -f 1)"; }

if ! command -v "$nvcc" >/dev/null; then
  if [ $check = no ]; then
    echo "nvcc is not here: set NVCC, or run scripts/cuda-toolkit.sh DIR and put DIR/bin on the PATH" >&2
    exit 1
  fi
  for source in *.cu; do
    ptx=${source%.cu}.ptx
    if [ "$(head -n 1 "$ptx")" != "$(header "$source")" ]; then
      echo "kernels/$ptx was made from other sources: run scripts/kernels.sh" >&2
      exit 1
    fi
  done
  echo "nvcc is not here: every PTX carries the hash of these sources; that they give it was not checked" >&2
  exit 0
fi

made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
different=
for source in *.cu; do
  ptx=${source%.cu}.ptx
  "$nvcc" -arch=compute_80 --ptx "$source" -o "$made/raw"
  # 7.8 has all that is used here, and drivers from CUDA 11.8 on take it.
  { header "$source"; sed 's/^\.version .*/.version 7.8/' "$made/raw"; } >"$made/$ptx"
  if command -v ptxas >/dev/null; then
    ptxas -arch=sm_80 "$made/$ptx" -o /dev/null
    ptxas -arch=sm_90 "$made/$ptx" -o /dev/null
  fi
  cmp -s "$made/$ptx" "$ptx" || different="$different kernels/$ptx"
done
if [ $check = no ]; then
  cp "$made"/*.ptx .
  echo "made $(ls ./*.ptx | wc -l) files; changed:${different:- none}"
elif [ -n "$different" ]; then
  echo "differ from what $("$nvcc" --version | grep -o 'release [0-9.]*') makes of the sources:$different; run scripts/kernels.sh" >&2
  exit 1
else
  echo "every PTX is what the sources give"
fi
