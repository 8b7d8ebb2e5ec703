"""The data files that come with keybrake: read through the package's loader, also out of a zip."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def read(package: str, file: str) -> str:
    """
    Return the text of a data file of *package*, in UTF-8.

    The loader finds it in a folder, in a zip and in a frozen program. ``importlib.resources`` does
    so too, but imports more on first use, which a fork must not meet half-way.

    Raises:
        OSError: There is no such file.
    """
    spec: Any = (sys.modules.get(package) or importlib.import_module(package)).__spec__
    path = os.path.join(os.path.dirname(spec.origin), file)  # noqa: PTH118, PTH120 -- a loader's own word for it
    return bytes(spec.loader.get_data(path)).decode("utf-8")
