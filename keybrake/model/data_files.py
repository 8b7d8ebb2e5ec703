"""Read the data files inside the keybrake package, even when it is imported from a zip."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def read(package: str, file: str) -> str:
    """
    Return the text of a data file of *package*, in UTF-8.

    The package's loader works for a folder, a zip and a frozen program. ``importlib.resources``
    does too, but it imports further modules on first use; a fork during such an import leaves the
    import lock held in the child.

    Raises:
        OSError: There is no such file.
    """
    spec: Any = (sys.modules.get(package) or importlib.import_module(package)).__spec__
    path = os.path.join(os.path.dirname(spec.origin), file)  # noqa: PTH118, PTH120 -- loaders take plain path strings
    return bytes(spec.loader.get_data(path)).decode("utf-8")
