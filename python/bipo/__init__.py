"""Steering vectors for frozen language models: read them, apply them to a model of transformers, and run the program bipo.

import bipo

bipo.train("cheerful", model="smollm2", output_dir="cheerful")
vector = bipo.load("cheerful/steering_vector.safetensors")
with bipo.apply(model, vector, magnitude=1.5):
    model.generate(**prompt)
"""

from ._apply import apply
from ._errors import BipoError
from ._program import Text, Training, program, steer, train
from ._vector import SteeringVector, load

__all__ = ["BipoError", "SteeringVector", "Text", "Training", "apply", "load", "program", "steer", "train"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("bipo")
    raise AttributeError(f"module 'bipo' has no attribute {name!r}")
