#!/usr/bin/env bash
# Prepares llama.cpp for scripts/compare-llamacpp.sh and scripts/test-interop.sh, and prints a folder. The folder holds the
# program llamacpp_sweep (compiled from scripts/llamacpp_sweep.c and llamacpp_vector.cpp), the libraries in bins/, and the name of
# the release of llama.cpp in the file `release`. The script runs on Linux on x86-64.
#
# It does not compile llama.cpp. The library is the prebuilt one in the npm package @node-llama-cpp/linux-x64, and the headers come
# from the release in node-llama-cpp of the same version. The script stops if the two packages name different releases.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "fetch-llamacpp: $1" >&2; exit 1; }

version=${NODE_LLAMA_CPP_VERSION:-3.22.1}
folder=${CARGO_TARGET_DIR:-target}/llamacpp/$version
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -f "$folder/release" ] || [ ! -f "$folder/headers/common/common.h" ]; then
    rm -rf "${folder:?}"/*
    mkdir -p "$folder/lib" "$folder/source" "$folder/headers"
    for package in "@node-llama-cpp/linux-x64" node-llama-cpp; do
        (cd "$folder" && npm pack --silent "$package@$version" >/dev/null)
    done
    tar xzf "$folder/node-llama-cpp-linux-x64-$version.tgz" -C "$folder/lib"
    tar xzf "$folder/node-llama-cpp-$version.tgz" -C "$folder/source"
    ln -s lib/package/bins/linux-x64 "$folder/bins"
    release() { tr -d ' \n' <"$1" | sed -n 's/.*"\(release\|tag\)":"\([^"]*\)".*/\2/p'; }
    built=$(release "$folder/bins/_nlcBuildMetadata.json")
    source=$(release "$folder/source/package/llama/llama.cpp.info.json")
    [ -n "$built" ] && [ "$built" = "$source" ] || fail "the library is of release '$built' but the headers are of '$source': set NODE_LLAMA_CPP_VERSION to another version"
    git -c init.defaultBranch=main clone --quiet --bare "$folder/source/package/llama/gitRelease.bundle" "$folder/release.git"
    git --git-dir "$folder/release.git" archive HEAD include ggml/include common/common.h | tar x -C "$folder/headers"
    echo "$built" >"$folder/release"
fi

bins=$folder/bins
includes=(-I"$folder/headers/include" -I"$folder/headers/ggml/include" -I"$folder/headers/common")
libraries=("$bins/libllama-common.so" "$bins"/libllama.*so "$bins"/libggml.*so "$bins/libggml-base.so")
"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra "${includes[@]}" -c scripts/llamacpp_sweep.c -o "$folder/llamacpp_sweep.o"
"${CXX:-c++}" -std=c++17 -O2 -Wall -Wextra "${includes[@]}" -o "$folder/llamacpp_sweep" scripts/llamacpp_vector.cpp \
    "$folder/llamacpp_sweep.o" "${libraries[@]}" -Wl,-rpath,"$bins"
echo "$folder"
