"""What the tests share: the repository's fixtures, and safetensors files of any content."""

import json
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
MODEL = FIXTURES / "llama"
HIDDEN, DEPTH = 32, 3
# Keywords with which the program uses that model.
TINY = {"model": MODEL, "offline": True, "device": "cpu"}


def safetensors(tensors, metadata=None):
    """The bytes of a file. `tensors` has dtype, shape and bytes by name."""
    header, data = ({} if metadata is None else {"__metadata__": metadata}), b""
    for name, (dtype, shape, piece) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def f32(*numbers):
    return ("F32", [len(numbers)], struct.pack(f"<{len(numbers)}f", *numbers))


def own(vectors, **metadata):
    """The bytes of a file as bipo writes it, with the `vectors` of the layers as lists of numbers."""
    said = {
        "format": "bipo",
        "format_version": "1",
        "hidden_size": str(len(next(iter(vectors.values())))),
        "layers": json.dumps(list(vectors)),
        "positions": "all",
        **metadata,
    }
    tensors = {f"layer.{layer}": f32(*numbers) for layer, numbers in vectors.items()}
    return safetensors(tensors, {key: value for key, value in said.items() if value is not None})
