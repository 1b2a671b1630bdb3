#!/usr/bin/env bash
# Compares a sweep of `bipo steer` with llama.cpp (scripts/llamacpp_sweep.c): SmolLM2-135M, one vector at layer 14, five
# magnitudes, 64 tokens, greedy, 2 threads. Prints a table. The machine should be idle. Linux on x86-64.
#
# Nothing of llama.cpp is compiled: the library is the prebuilt one in the npm package @node-llama-cpp/linux-x64, the headers
# come from the release in node-llama-cpp of the same version, and the script stops if the two name different releases.
#
# usage: scripts/compare-llamacpp.sh [-m MODEL.gguf] [-v VECTOR.safetensors] [-p PYTHON] [-- FLAGS OF compare_llamacpp.py]
#   -m  model (default: what scripts/fetch-smollm2.sh fetches)
#   -v  steering vector (default: one from a short run of bipo train)
#   -p  a Python with the package gguf: llama.cpp is then also measured with f32 weights, those that bipo computes with
set -euo pipefail
cd "$(dirname "$0")/.."

version=${NODE_LLAMA_CPP_VERSION:-3.22.1}
target=${CARGO_TARGET_DIR:-target}
model=
vector=
python=${PYTHON:-python3}
while getopts m:v:p:h option; do
    case $option in
        m) model=$OPTARG ;;
        v) vector=$OPTARG ;;
        p) python=$OPTARG ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
fail() { echo "compare-llamacpp: $1" >&2; exit 1; }

[ -n "$model" ] || model=$(sh scripts/fetch-smollm2.sh)
work=$target/compare-llamacpp
mkdir -p "$work"
work=$(cd "$work" && pwd)
bins=$work/$version/lib/package/bins/linux-x64
headers=$work/$version/headers

if [ ! -f "$work/$version/complete" ]; then
    rm -rf "${work:?}/$version"
    mkdir -p "$work/$version/lib" "$work/$version/source" "$headers"
    for package in "@node-llama-cpp/linux-x64" node-llama-cpp; do
        (cd "$work/$version" && npm pack --silent "$package@$version" >/dev/null)
    done
    tar xzf "$work/$version/node-llama-cpp-linux-x64-$version.tgz" -C "$work/$version/lib"
    tar xzf "$work/$version/node-llama-cpp-$version.tgz" -C "$work/$version/source"
    release() { tr -d ' \n' <"$1" | sed -n 's/.*"\(release\|tag\)":"\([^"]*\)".*/\2/p'; }
    built=$(release "$bins/_nlcBuildMetadata.json")
    source=$(release "$work/$version/source/package/llama/llama.cpp.info.json")
    [ -n "$built" ] && [ "$built" = "$source" ] || fail "library is of release '$built', headers of '$source'"
    git -c advice.defaultBranchName=false clone --quiet --bare "$work/$version/source/package/llama/gitRelease.bundle" "$work/$version/release.git"
    git --git-dir "$work/$version/release.git" archive HEAD include ggml/include | tar x -C "$headers"
    echo "$built" >"$work/$version/complete"
fi

sweep=$work/$version/llamacpp_sweep
libraries=("$bins"/libllama.*so "$bins"/libggml.*so "$bins/libggml-base.so")
"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -o "$sweep" scripts/llamacpp_sweep.c -I"$headers/include" -I"$headers/ggml/include" \
    "${libraries[@]}" -Wl,-rpath,"$bins"

f32=()
if "$python" -c 'import gguf' 2>/dev/null; then
    [ -f "$work/model-f32.gguf" ] || "$python" scripts/gguf_to_f32.py "$model" "$work/model-f32.gguf"
    f32=(--f32-model "$work/model-f32.gguf")
fi
cargo build --release --quiet

"$python" scripts/compare_llamacpp.py --bipo "$target/release/bipo" --sweep "$sweep" --backends "$bins" --model "$model" \
    --work-dir "$work" --release "$(cat "$work/$version/complete")" ${vector:+--vector "$vector"} "${f32[@]}" "$@"
