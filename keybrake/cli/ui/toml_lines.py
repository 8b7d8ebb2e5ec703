"""In which line a key of a TOML text stands: ``tomllib`` gives the values, but not where they were."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value; a number is a place in an array."""

# A value of several lines is an array or a long string, so its last line has one of these.
_MAY_END = re.compile(r"]|\"\"\"|'''")


def lines(text: str) -> dict[KeyPath, int]:
    """
    Return the line in which each key and table begins.

    Each statement is read by itself, together with the lines after it until it is whole.

    Args:
        text: What ``tomllib`` has read without an error.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    statement, begin = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        goes_on = bool(statement)
        statement += f"{line}\n"
        if goes_on and not _MAY_END.search(line):
            continue
        try:
            said = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        is_header = statement.lstrip().startswith("[")
        for path in _paths(() if is_header else table, said):
            found.setdefault(path, begin)
            if is_header:
                table = path  # the last one is the whole name
        statement, begin = "", number + 1
    return found


def _paths(table: KeyPath, said: Any) -> Iterator[KeyPath]:
    if isinstance(said, dict):
        for key, value in said.items():
            yield (*table, key)
            yield from _paths((*table, key), value)


def line_of(found: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of *path*, or of the nearest table around it that has one."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)
