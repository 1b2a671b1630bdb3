#!/usr/bin/env bash
# Assembles in DIR what `cargo build --features cuda` needs if no CUDA toolkit is installed: compiler and headers from
# NVIDIA's packages on PyPI (105 MB), the static runtime, and empty libraries to link against in place of the driver and of
# the libraries that only a machine with a GPU has. It needs no GPU and no root, and installs nothing outside DIR. It prints
# the variables to set and writes them to DIR/env.sh. If you run it again, it does not download again.
# usage: scripts/cuda-toolkit.sh DIR
set -euo pipefail

# The version is 13.0, because drivers of the 580 series refuse what later compilers write.
packages='
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649'

fail() {
  echo "cuda-toolkit: $1" >&2
  exit 1
}

[ $# -eq 1 ] || fail "expected one folder: scripts/cuda-toolkit.sh DIR"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "these packages are for Linux on x86-64: install NVIDIA's toolkit here"
for tool in cargo g++; do
  command -v "$tool" >/dev/null || fail "$tool not found: install it"
done
python=${PYTHON:-python3}
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: install python3-pip, or set PYTHON to a Python with pip"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" || fail "cannot write to $1"
dir=$(cd "$1" && pwd)

if [ ! -x "$dir/bin/nvcc" ]; then
  # The files are unpacked inside DIR, so that the last step is a rename and an interrupted run leaves no half of a toolkit.
  work=$(mktemp -d "$dir/unpack.XXXXXX") || fail "cannot write to $dir"
  trap 'rm -rf "$work"' EXIT
  echo "cuda-toolkit: downloading with pip (105 MB)" >&2
  printf '%s\n' "$packages" >"$work/packages"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$work" --requirement "$work/packages" >&2 ||
    fail "pip could not download NVIDIA's packages: is there a network, or a package index that pip may use?"
  for wheel in "$work"/*.whl; do
    "$python" -m zipfile -e "$wheel" "$work/tree" || fail "cannot unpack $(basename "$wheel"): is the disk full?"
  done
  [ -d "$work/tree/nvidia/cu13" ] || fail "the packages do not hold nvidia/cu13: were they changed?"
  chmod +x "$work"/tree/nvidia/cu13/bin/* "$work"/tree/nvidia/cu13/nvvm/bin/*
  for part in bin include lib nvvm; do
    rm -rf "${dir:?}/$part"
  done
  # The compiler is moved last, so that its presence shows that all other parts are there.
  for part in include lib nvvm bin; do
    mv "$work/tree/nvidia/cu13/$part" "$dir/$part"
  done
fi
ln -sfn lib "$dir/lib64"
# The linker finds the static runtime before a shared one, so that the program runs without libcudart.
cp -f "$dir/lib/libcudart_static.a" "$dir/lib/libcudart.a"

cp -f "$here/nvcc-dense" "$dir/bin/nvcc-dense"

cudarc=$("$python" "$here/cuda_stubs.py" find "$here/../Cargo.toml") || fail "cargo could not fetch the dependencies"
"$python" "$here/cuda_stubs.py" make "$cudarc" "$dir/lib/stubs" || fail "cannot make the libraries to link against"

cat >"$dir/env.sh" <<ENV
# Variables for a build of bipo with --features cuda. CUDA_COMPUTE_CAP is the oldest kind of GPU that the program runs on.
export CUDA_HOME='$dir' NVCC='$dir/bin/nvcc' CUDARC_CUDA_VERSION=13000
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80}
# This compiler leaves out kernels of candle that bipo never calls, and builds in a fraction of the time:
# export NVCC='$dir/bin/nvcc-dense'
ENV
"$dir/bin/nvcc" --version >/dev/null || fail "$dir/bin/nvcc does not run: remove $dir and try again"
cat "$dir/env.sh"
echo "# now: . $dir/env.sh && cargo build --release --features cuda"
