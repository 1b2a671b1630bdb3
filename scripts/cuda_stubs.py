#!/usr/bin/env python3
"""Make empty libraries that a CUDA build can link against on a machine without driver and toolkit. They have the names that the
crate cudarc declares and the SONAMEs of NVIDIA's libraries. Every function returns 999, CUDA's "unknown error", so that a
program which is started with these libraries reports that it cannot use the device. scripts/cuda-toolkit.sh runs this script.

  cuda_stubs.py find CARGO_TOML        print the folder in which cargo keeps the sources of cudarc
  cuda_stubs.py make CUDARC_DIR OUT    write the libraries into OUT
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

# For each library that candle links: the folder of the declarations, its name, its SONAME, and what its functions begin with.
LIBRARIES = [
    ("driver", "libcuda.so", "libcuda.so.1", "cu"),
    ("nvrtc", "libnvrtc.so", "libnvrtc.so.13", "nvrtc"),
    ("curand", "libcurand.so", "libcurand.so.10", "curand"),
    ("cublas", "libcublas.so", "libcublas.so.13", "cublas"),
    ("cublaslt", "libcublasLt.so", "libcublasLt.so.13", "cublasLt"),
]


def find(manifest):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", "cuda", "--manifest-path", manifest]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    manifests = [package["manifest_path"] for package in metadata["packages"] if package["name"] == "cudarc"]
    if len(manifests) != 1:
        sys.exit(f"cuda_stubs: expected one cudarc among the dependencies, found {len(manifests)}")
    print(pathlib.Path(manifests[0]).parent)


def make(cudarc, out):
    out.mkdir(parents=True, exist_ok=True)
    for folder, name, soname, prefix in LIBRARIES:
        declarations = cudarc / "src" / folder / "sys" / "mod.rs"
        functions = sorted(set(re.findall(rf"\bfn ({prefix}[A-Z]\w*)\s*\(", declarations.read_text(encoding="utf-8"))))
        if not functions:
            sys.exit(f"cuda_stubs: {declarations} declares no {prefix} function: this script knows another version of cudarc")
        with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
            source.writelines(f"int {function}(void) {{ return 999; }}\n" for function in functions)
            source.flush()
            target = out / name
            command = ["g++", "-x", "c", "-shared", "-fPIC", "-O0", f"-Wl,-soname,{soname}", "-o", target, source.name]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["find", manifest]:
            find(manifest)
        case ["make", cudarc, out]:
            make(pathlib.Path(cudarc), pathlib.Path(out))
        case _:
            sys.exit(__doc__)
