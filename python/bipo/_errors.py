"""The one error of the package, and imports of packages that are needed by a part of it alone."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Optional


class BipoError(Exception):
    """What went wrong, in one line. `code` is the exit code of the program, where it was the program that failed."""

    def __init__(self, message: str, code: Optional[int] = None):
        super().__init__(message)
        self.code = code


def needed(package: str, by: str) -> ModuleType:
    """Imports a package that bipo does not bring."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != package:
            raise  # it is installed, and itself broken
        raise ImportError(f"{by} needs {package}: pip install {package}", name=package) from None
