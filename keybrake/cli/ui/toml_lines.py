"""In which line a key of a TOML text stands: ``tomllib`` gives the values, but not where they were."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value; a number is a place in an array."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r"""
    "{3}(?:[^\\]|\\.)*?"{3}"{0,2}    # a quote or two may stand before the three at the end
    | '{3}.*?'{3}'{0,2}
    | "(?:[^"\\]|\\.)*"
    | '[^']*'
    """,
    re.DOTALL | re.VERBOSE,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A number, a date, a truth value: whatever is neither a string nor has brackets.
_PLAIN = re.compile(r"[^\[\]{},#\n]+")


def lines(text: str) -> dict[KeyPath, int]:
    """
    Return the line in which each key, table and array element begins.

    Args:
        text: What ``tomllib`` has read without an error.
    """
    return _Reader(text).read()


def line_of(found: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of *path*, or of the nearest table around it that has one."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)


class _Reader:
    """Goes through a text from its beginning to its end, once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._counted = 1, 0
        self._found: dict[KeyPath, int] = {}

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> KeyPath:
        # What several [[tables]] of one name hold stands under that name, without a number.
        begin = self._at
        self._take("[")
        self._take("[")
        table = tuple(self._key())
        self._note((), table, begin)
        self._take("]")
        self._take("]")
        return table

    def _assignment(self, table: KeyPath) -> None:
        begin = self._at
        key = tuple(self._key())
        self._note(table, key, begin)
        self._take("=")
        self._value(table + key)

    def _key(self) -> Iterator[str]:
        """Yield the parts of a dotted key."""
        while True:
            self._skip(_BLANK)
            if quoted := self._skip(_STRING):
                yield tomllib.loads(f"it = {quoted}")["it"]
            else:
                yield self._skip(_BARE_KEY)
            if not self._take("."):
                return

    def _value(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            while not self._take("}"):
                self._assignment(path)
                self._take(",")
                self._skip(_BLANK)
        elif not self._skip(_STRING):
            self._skip(_PLAIN)

    def _array(self, path: KeyPath) -> None:
        number = 0
        while not self._take("]"):
            self._skip(_BLANK)
            self._note(path, (number,), self._at)
            self._value((*path, number))
            self._take(",")
            number += 1

    def _note(self, table: KeyPath, key: KeyPath, at: int) -> None:
        """Keep the line in which *key*, and every table on the way to it, is named first."""
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        for end in range(1, len(key) + 1):
            self._found.setdefault(table + key[:end], self._line)

    def _take(self, mark: str) -> bool:
        """Go past *mark* and the blanks before it, if that is what comes."""
        after = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
        if not self._text.startswith(mark, after):
            return False
        self._at = after + len(mark)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Go past what *pattern* fits, and return it."""
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]
