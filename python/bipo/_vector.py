"""Steering vectors as safetensors files have them. Other formats are read by the program: `bipo convert IN OUT.safetensors`."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple, Union

from ._errors import BipoError, needed
from ._places import Positions

if TYPE_CHECKING:
    import numpy
    import torch

LARGEST_FILE = 64 << 20
# Numbers of so many digits fit into 64 bits, as the program needs it.
DIGITS = 19
# What NumPy reads the numbers as.
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
PARSED = ("training", "combination", "calibration")
OBJECTS = ("combination", "calibration")
OPERATIONS = ("add", "ablate")
SPANS = ("user", "assistant")


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """One vector for each steered layer.

    A layer is the 0-based index of a decoder block, to whose output its vector is added.
    """

    layers: Mapping[int, numpy.ndarray]
    """The vector of each layer, as f32 of shape (hidden_size,)."""
    positions: str = "all"
    """At which tokens it is added: all, prompt, response, last, first:N, last:N, or several joined by +."""
    operation: str = "add"
    """What is done with it: add, or ablate (what the residual has along the vector is taken out)."""
    spans: Optional[str] = None
    """In whose messages alone it is added: user or assistant; None is everywhere."""
    base_model: Optional[str] = None
    """The model that it was learned on."""
    model_type: Optional[str] = None
    """The `model_type` of that model."""
    num_hidden_layers: Optional[int] = None
    """The number of blocks of that model."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """All of the file's metadata; `training`, `combination` and `calibration` are parsed."""

    @property
    def hidden_size(self) -> int:
        """The length of each layer's vector."""
        return len(next(iter(self.layers.values())))

    @property
    def norm(self) -> float:
        """The norm of the vectors of all layers, concatenated."""
        return math.sqrt(sum(float((v.astype("f8") ** 2).sum()) for v in self.layers.values()))

    def torch(
        self, device: Union[str, torch.device, None] = None, dtype: Optional[torch.dtype] = None
    ) -> Dict[int, torch.Tensor]:
        """The vector of each layer as a tensor, f32 on the CPU unless said otherwise."""
        library = needed("torch", "SteeringVector.torch")
        return {layer: library.from_numpy(v.copy()).to(device=device, dtype=dtype) for layer, v in self.layers.items()}

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        where = self.positions if self.spans is None else f"{self.positions}, {self.spans}"
        return f"SteeringVector(layers [{layers}], hidden_size {self.hidden_size}, norm {self.norm:.4f}, {where})"


def load(path: Union[str, os.PathLike[str]], layer: Optional[int] = None) -> SteeringVector:
    """Reads a safetensors file: bipo's own, one with only tensors `layer.N`, or one with a single tensor and `layer` for it.

    Nothing in the file is run. Raises BipoError where the file is broken, or holds something else than a steering vector.
    """
    path = Path(path)
    needed("numpy", "bipo.load")
    if layer is not None and not (isinstance(layer, Integral) and layer >= 0):
        raise BipoError(f"layer {layer!r}: expected a whole number, 0 or above")
    header, data = read_file(path)
    strings = header.pop("__metadata__", {})
    if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
        raise malformed(path, "its metadata is not a map of strings: is the file broken?")
    is_own = strings.get("format") == "bipo"
    if not is_own:
        refuse_modules(path, header, strings)
    arrays = {name: array(path, name, entry, data) for name, entry in header.items()}
    if is_own:
        vector = own(path, arrays, strings)
    else:
        vector = SteeringVector(layers=placed(path, arrays, layer), metadata=dict(strings))
    check(path, vector)
    return moved(path, vector, layer)


def read_file(path: Path) -> Tuple[Dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes behind it."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            limit = LARGEST_FILE >> 20
            raise malformed(path, f"more than {limit} MiB, too large for a steering vector: is it a model?")
        content = path.read_bytes()
    except OSError as error:
        raise BipoError(f"cannot read {path}: {error.strerror or error}") from None
    length = int.from_bytes(content[:8], "little")
    if len(content) < 10 or content[4:9] != b"\0\0\0\0{":
        raise malformed(path, f"not a safetensors file: `bipo convert {path} OUT.safetensors` reads other formats")
    if length > len(content) - 8:
        raise malformed(path, f"its header has {length} bytes, but the file {len(content)}: is it truncated?")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        raise malformed(path, "its header is not JSON: is the file broken?") from None
    return header, content[8 + length :]


def array(path: Path, name: str, entry: Any, data: bytes) -> numpy.ndarray:
    """A tensor of the file as f32, which f16 and bf16 become exactly."""
    import numpy

    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [begin, end, *shape]
    except (KeyError, TypeError, ValueError):
        raise malformed(path, f"tensor {name!r} has no dtype, shape and offsets: is the file broken?") from None
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise malformed(path, f"tensor {name!r} has a shape or offsets that are no whole numbers: is the file broken?")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise malformed(path, f"tensor {name!r} is {dtype}, expected F32, F16 or BF16")
    if sum(length != 1 for length in shape) > 1:
        raise malformed(path, f"tensor {name!r} has shape {shape}, expected [hidden]")
    if begin > end or end > len(data) or end - begin != math.prod(shape) * numpy.dtype(DTYPES[dtype]).itemsize:
        raise malformed(path, f"tensor {name!r} does not lie in the file as its header says: is the file truncated?")
    raw = numpy.frombuffer(data[begin:end], DTYPES[dtype])
    return (raw.astype("u4") << 16).view("f4") if dtype == "BF16" else raw.astype("f4")


def own(path: Path, arrays: Dict[str, numpy.ndarray], strings: Dict[str, str]) -> SteeringVector:
    """The vector of a file that bipo wrote."""
    version = strings.get("format_version")
    if version != "1":
        raise malformed(path, f"format_version {version!r}, but this bipo reads 1: use a newer bipo")
    for key in ("positions", "hidden_size"):
        if key not in strings:
            raise malformed(path, f"metadata key {key!r} is missing")
    metadata: Dict[str, Any] = dict(strings)
    for key in PARSED:
        if key in metadata:
            metadata[key] = parsed(path, key, strings[key])
            if key in OBJECTS and not isinstance(metadata[key], dict):
                raise malformed(path, f"metadata key {key!r} is {strings[key][:60]!r}, expected an object")
    layers = parsed(path, "layers", strings.get("layers", ""))
    if not isinstance(layers, list) or not all(type(layer) is int and 0 <= layer < 10**DIGITS for layer in layers):
        problem = f"metadata key 'layers' is {strings['layers'][:60]!r}, expected a list of whole numbers, 0 or above"
        raise malformed(path, problem)
    if sorted(f"layer.{layer}" for layer in layers) != sorted(arrays):
        raise malformed(path, f"metadata lists layers {layers}, but its tensors are {', '.join(sorted(arrays))}")
    for key in ("hidden_size", "num_hidden_layers"):
        if key in strings and whole(strings[key]) is None:
            raise malformed(path, f"metadata key {key!r} is {strings[key][:60]!r}, expected a whole number")
    if strings.get("spans", "user") not in SPANS:
        raise malformed(path, f"metadata key 'spans' is {strings['spans']!r}, expected user or assistant")
    try:
        Positions.of(strings["positions"])
    except BipoError as error:
        raise malformed(path, str(error)) from None
    if "condition" in strings:
        raise malformed(path, "it is a condition, which says when to steer and steers nothing: `bipo steer --when` takes it")
    if strings.get("operation", "add") not in OPERATIONS:
        raise malformed(path, f"metadata key 'operation' is {strings['operation']!r}, expected add or ablate")
    return SteeringVector(
        layers={layer: arrays[f"layer.{layer}"] for layer in sorted(layers)},
        positions=strings["positions"],
        operation=strings.get("operation", "add"),
        spans=strings.get("spans"),
        base_model=strings.get("base_model"),
        model_type=strings.get("model_type"),
        num_hidden_layers=whole(strings.get("num_hidden_layers", "")),
        metadata=metadata,
    )


def parsed(path: Path, key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise malformed(path, f"metadata key {key!r} is {text[:60]!r}, expected JSON") from None


def placed(path: Path, arrays: Dict[str, numpy.ndarray], layer: Optional[int]) -> Dict[int, numpy.ndarray]:
    """The vectors of a file of another program, by layer."""
    numbers = {number: v for number, v in ((layer_of(name), v) for name, v in arrays.items()) if number is not None}
    if arrays and len(numbers) == len(arrays):
        return {number: numbers[number] for number in sorted(numbers)}
    if len(arrays) != 1:
        raise malformed(path, f"holds {len(arrays)} tensors, none a steering vector: expected layer.N alone, or one tensor")
    if layer is None:
        raise malformed(path, "does not say which layer it steers: pass layer=N")
    return {layer: next(iter(arrays.values()))}


def layer_of(name: str) -> Optional[int]:
    return whole(name[len("layer.") :]) if name.startswith("layer.") else None


def whole(text: str) -> Optional[int]:
    """A whole number of at most `DIGITS` digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None


def refuse_modules(path: Path, header: Dict[str, Any], strings: Dict[str, str]) -> None:
    """Refuses a vector for a module inside a block, which programs that steer any module name in a tensor or the metadata."""
    for text in [*header, *(value for value in strings.values() if "layers" in value)]:
        words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
        if any(word.endswith(("mlp", "attn", "_proj", "norm")) for word in words):
            shown = f"{text[:80]!r} is the output of a module inside a block"
            raise malformed(path, f"{shown}, but bipo adds vectors to blocks' outputs: extract it at the block")


def check(path: Path, vector: SteeringVector) -> None:
    import numpy

    if not vector.layers or vector.hidden_size == 0:
        raise malformed(path, "holds no vector")
    said = vector.metadata.get("hidden_size", str(vector.hidden_size))
    for layer, v in vector.layers.items():
        if len(v) != vector.hidden_size or str(len(v)) != said:
            raise malformed(path, f"layer {layer} has {len(v)} elements, expected {said}")
        if not numpy.isfinite(v).all():
            index = int(numpy.flatnonzero(~numpy.isfinite(v))[0])
            raise malformed(path, f"layer {layer} has an element that is not finite (index {index}): expected f32 numbers")
    if vector.num_hidden_layers is not None and max(vector.layers) >= vector.num_hidden_layers:
        raise malformed(path, f"steers layer {max(vector.layers)} of a model of {vector.num_hidden_layers} layers")


def moved(path: Path, vector: SteeringVector, layer: Optional[int]) -> SteeringVector:
    """The vector at `layer`, whatever layer its file says."""
    from dataclasses import replace

    if layer is None or list(vector.layers) == [layer]:
        return vector
    if len(vector.layers) > 1:
        found = ", ".join(map(str, vector.layers))
        raise malformed(path, f"holds vectors for layers {found}: only a single one can be moved")
    return replace(vector, layers={layer: next(iter(vector.layers.values()))})


def malformed(path: Path, problem: str) -> BipoError:
    return BipoError(f"{path}: {problem}")
