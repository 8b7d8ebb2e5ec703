"""Find the endpoint of a path, and refuse paths that an HTTP client might send differently."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from keybrake.model import data_files
from keybrake.model.call import Effect
from keybrake.model.shown import shown

MOST_CHARACTERS = 2048

# The characters of a path segment: RFC 3986 pchar without ;. Hex digits of escapes in capitals,
# as HTTP clients write them.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9_.~!$&'()*+,=:@-]|%[0-9A-F]{2})+")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]")


def oddity(path: str) -> str | None:
    """
    Return the reason why two parsers could read *path* differently; None: they cannot.

    HTTP clients differ in how they resolve dot segments, merge slashes and decode escapes
    (measured with requests, httpx and urllib3). A path that depends on this is refused, not
    rewritten.
    """
    if not path.startswith("/"):
        return "it does not begin with /"
    if len(path) > MOST_CHARACTERS:
        return f"it is longer than {MOST_CHARACTERS} characters"
    for segment in path[1:].split("/"):
        if segment in ("", ".", ".."):
            after = " at its beginning, as if the address before it ended with a slash"
            return f"it has the segment {segment!r}{after if path[:2] == '//' else ''}"
        if not _SEGMENT.fullmatch(segment):
            return f"the segment {shown(segment)} has a character that does not belong there"
        if any(_rewritable(int(code, 16)) for code in _ESCAPE.findall(segment)):
            return f"the segment {shown(segment)} hides a character behind an escape"
    return None


def _rewritable(code: int) -> bool:
    character = chr(code)
    return code < 0x20 or character in "/\\%" or bool(_UNRESERVED.fullmatch(character))


_URL = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(/.*)?", re.DOTALL
)


def path_of(url: str) -> str:
    """
    Return the path of an absolute URL, unchanged; the whole text if it is no such URL.

    urllib.parse is not used: it drops the fragment, tabs and line ends, so its path can differ
    from the one that is sent.
    """
    parts = _URL.fullmatch(url)
    return (parts[1] or "") if parts else url


class Row(NamedTuple):
    """One endpoint of the table."""

    method: str
    path: str
    endpoint: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class EndpointTable:
    """All endpoints of one vendor, found by method and path."""

    rows: tuple[Row, ...]
    _tree: dict[str | None, Any]

    @classmethod
    def read(cls, package: str, file: str) -> EndpointTable:
        """Read the table from a data file of *package*: CSV, with # comments on top."""
        text = data_files.read(package, file)
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return cls.of(
            Row(r["method"], r["path"], r["endpoint"], Effect(r["effect"]))
            for r in csv.DictReader(lines)
        )

    @classmethod
    def of(cls, rows: Iterable[Row]) -> EndpointTable:
        """Build a table of *rows*; the last row for a method and path wins."""
        listed = tuple(rows)
        tree: dict[str | None, Any] = {}
        for row in listed:
            node = tree.setdefault(row.method, {})
            for segment in row.path.removeprefix("/").split("/"):
                node = node.setdefault(segment, {})
            node[None] = row
        return cls(listed, tree)

    def find(self, method: str, path: str) -> tuple[Row | None, tuple[str, ...]]:
        """Return the row for a path (None: no row) and the values of its placeholders."""
        return _descend(self._tree.get(method, {}), path.removeprefix("/").split("/"), ())

    def could_be(self, method: str, pattern: str) -> bool:
        """Return whether a path pattern, ``*`` for one segment, could match a row."""
        wanted = pattern.removeprefix("/").split("/")
        return any(
            row.method == method and _fits(wanted, row.path.removeprefix("/").split("/"))
            for row in self.rows
        )


def _fits(wanted: list[str], given: list[str]) -> bool:
    return len(wanted) == len(given) and all(
        part in ("*", segment) or ("{}" in segment and part.endswith(segment[2:]))
        for part, segment in zip(wanted, given, strict=True)
    )


def _descend(
    node: dict[str | None, Any], segments: list[str], filled: tuple[str, ...]
) -> tuple[Row | None, tuple[str, ...]]:
    if not segments:
        return node.get(None), filled
    head, *rest = segments
    # Try a literal before a placeholder: /v1/charges/search is not the charge "search".
    if head in node:
        row, names = _descend(node[head], rest, filled)
        if row is not None:
            return row, names
    stem = head.removesuffix(".json")
    if stem != head and stem and "{}.json" in node:
        return _descend(node["{}.json"], rest, (*filled, stem))
    if "{}" in node:
        return _descend(node["{}"], rest, (*filled, head))
    return None, filled
