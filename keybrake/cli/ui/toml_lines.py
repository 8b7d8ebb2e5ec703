"""Find the line of each key in a TOML text, which ``tomllib`` does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value; a number is an index of an array."""

# A value on several lines is an array or a multi-line string, so its last line has one of these.
_MAY_END = re.compile(r"]|\"\"\"|'''")


def lines(text: str) -> dict[KeyPath, int]:
    """
    Return the line in which each key and table begins.

    It collects lines until they parse as one complete statement, and then starts again.

    Args:
        text: A text that ``tomllib`` has already read without an error.
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
            continue  # the statement goes on in the next line
        is_header = statement.lstrip().startswith("[")
        for path in _paths(() if is_header else table, said):
            found.setdefault(path, begin)
            if is_header:
                table = path  # the last path is the full name of the table
        statement, begin = "", number + 1
    return found


def _paths(table: KeyPath, said: Any) -> Iterator[KeyPath]:
    if isinstance(said, dict):
        for key, value in said.items():
            yield (*table, key)
            yield from _paths((*table, key), value)


def line_of(found: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of *path*, or of the nearest enclosing table with a line."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)
