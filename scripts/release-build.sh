#!/usr/bin/env bash
# Builds what a release has for one target: the wheel and the archive, into OUT. The release workflow runs it, on Linux in the
# containers of the Python Packaging Authority (manylinux_2_28, musllinux_1_2), so that the program runs on every Linux of its kind.
#
# usage: scripts/release-build.sh TARGET OUT [--cuda]
#   TARGET  such as x86_64-unknown-linux-gnu; that of the machine itself, since the program is run
#   --cuda  the program for NVIDIA GPUs of compute capability 8.0 and later; an archive alone
# Installs Rust if there is none.
# PYTHON names the Python, 3.9 or later with pip (default: that of the container, else python3 or python).
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
target=$1 out=$2 kind=${3:-}
case $kind in "" | --cuda) ;; *) echo "release-build: unknown argument $kind: expected --cuda" >&2; exit 2 ;; esac
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95.0
  export PATH="$HOME/.cargo/bin:$PATH"
fi
host=$(rustc -vV | sed -n 's/^host: //p')
[ "$host" = "$target" ] || { echo "release-build: this machine builds for $host, not for $target" >&2; exit 1; }
# The containers have Pythons of their own in /opt, and none or an old one on the path. The scripts that are called here take this one, too.
PYTHON=${PYTHON:-$(ls -d /opt/python/cp312-cp312/bin/python 2>/dev/null || command -v python3 || command -v python)}
export PYTHON

if [ "$kind" = --cuda ]; then
  scripts/cuda-toolkit.sh target/cuda
  # shellcheck source=/dev/null
  . target/cuda/env.sh
  # For all GPUs, whatever the machine has; without the kernels that bipo never calls, which take most of the time.
  export CUDA_COMPUTE_CAP=80 NVCC="$PWD/target/cuda/bin/nvcc-dense"
  cargo build --release --locked --features cuda
  # The program is linked to libraries that only a machine with a GPU has. Empty ones do to write completions and manual pages.
  mkdir -p target/cuda/run
  for library in "$PWD"/target/cuda/lib/stubs/*.so; do
    soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    ln -sf "$library" "target/cuda/run/$soname"
  done
  LD_LIBRARY_PATH="$PWD/target/cuda/run:${LD_LIBRARY_PATH:-}" \
    scripts/package.sh target/release/bipo "$target-cuda13" "$out"
  exit
fi

scripts/maturin.sh build --out "$out"
program=target/release/bipo
[ -x "$program" ] || program=$program.exe
scripts/package.sh "$program" "$target" "$out"
