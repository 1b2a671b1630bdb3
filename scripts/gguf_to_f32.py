#!/usr/bin/env python3
"""Write a copy of a GGUF file with every tensor as f32, so that llama.cpp computes with the same weights as bipo.

OUT is there only when it is whole: it is written under another name and renamed.

usage: python scripts/gguf_to_f32.py MODEL.gguf OUT.gguf     (needs the PyPI package gguf)
"""

import os
import sys

from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

F32 = 0  # general.file_type of a file whose tensors are all f32


def main(source, target):
    reader = GGUFReader(source)
    unfinished = f"{target}.tmp"
    writer = GGUFWriter(unfinished, arch=reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = F32 if field.name == "general.file_type" else field.contents()
        sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
