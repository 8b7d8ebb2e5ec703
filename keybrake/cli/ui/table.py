"""How a table fits the terminal: coloured and cut to its width there, plain and whole in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keybrake.cli.ui.text import safe

_GAP = "  "
_NARROWEST = 12


class Cell(NamedTuple):
    """What stands in one place of a table, and its colour."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column.

    Attributes:
        right: Numbers stand to the right.
        gives_way: Where the terminal is too narrow, the highest number gives way first; 0 never does.
        style: Of cells that have none of their own.
        optional: Left out where the terminal is too narrow even then, the rightmost first.
    """

    title: str
    right: bool = False
    gives_way: int = 0
    style: str = ""
    optional: bool = False


def is_terminal() -> bool:
    """Return whether a person is looking."""
    return sys.stdout.isatty()


def console() -> Any:
    """Return a rich console that prints text as it is, without escapes in a pipe or NO_COLOR."""
    from rich.console import Console

    plain = not is_terminal() or bool(os.environ.get("NO_COLOR"))
    return Console(
        force_terminal=is_terminal(),
        color_system=None if plain else "auto",
        width=None if is_terminal() else 100_000,
        markup=False,
        emoji=False,
        highlight=False,
    )


class Table:
    """A table that can go on growing: its columns keep their places from batch to batch."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._widths = [len(column.title) for column in columns]
        self._begun = False
        self._console: Any = console() if is_terminal() else None

    def show(self, rows: Iterable[Sequence[Cell | str]]) -> None:
        """Print *rows*, below the titles if they are the first."""
        lines = [[_cell(value) for value in row] for row in rows]
        if not self._begun:
            lines.insert(0, [Cell(column.title, "bold dim") for column in self._columns])
            self._begun = True
        for line in lines:
            for index, cell in enumerate(line):
                self._widths[index] = max(self._widths[index], _width(cell.text))
        widths = self._fitted()
        if self._console is None:
            sys.stdout.writelines(f"{self._plain(line, widths)}\n" for line in lines)
        else:
            self._print_styled(lines, widths)

    def _fitted(self) -> list[int]:
        """Return the widths with which the terminal holds the table; a column of 0 is left out."""
        widths = list(self._widths)
        if self._console is None:
            return widths
        optional = [i for i, column in enumerate(self._columns) if column.optional]
        while not self._narrowed(widths) and optional:
            left_out = [*(i for i, width in enumerate(widths) if width == 0), optional.pop()]
            widths = [0 if i in left_out else width for i, width in enumerate(self._widths)]
        return widths

    def _narrowed(self, widths: list[int]) -> bool:
        """Narrow the columns that give way; return whether the terminal holds the table then."""
        shown = [width for width in widths if width]
        excess: int = sum(shown) + len(_GAP) * (len(shown) - 1) - self._console.width
        ranks = [column.gives_way for column in self._columns]
        for rank in sorted({rank for rank in ranks if rank}, reverse=True):
            while excess > 0:
                widest = max((i for i, r in enumerate(ranks) if r == rank), key=widths.__getitem__)
                if widths[widest] <= _NARROWEST:
                    break
                widths[widest] -= 1
                excess -= 1
        return excess <= 0

    def _plain(self, line: Sequence[Cell], widths: Sequence[int]) -> str:
        places = zip(self._columns, line, widths, strict=True)
        return _GAP.join(
            _placed(cell.text, width, right=column.right) for column, cell, width in places
        ).rstrip()

    def _print_styled(self, lines: Sequence[Sequence[Cell]], widths: Sequence[int]) -> None:
        from rich.text import Text

        for line in lines:
            text = Text()
            for column, cell, width in zip(self._columns, line, widths, strict=True):
                if width:
                    placed = _placed(_cut(cell.text, width), width, right=column.right)
                    text.append(placed, cell.style or column.style).append(_GAP)
            text.rstrip()
            self._console.print(text, no_wrap=True, overflow="ellipsis")


def _cell(value: Cell | str) -> Cell:
    return Cell(safe(value.text), value.style) if isinstance(value, Cell) else Cell(safe(value))


def _width(text: str) -> int:
    """Return how many columns of a terminal *text* takes: some letters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, width - 1)}…"


def _placed(text: str, width: int, *, right: bool) -> str:
    gap = " " * max(0, width - _width(text))
    return f"{gap}{text}" if right else f"{text}{gap}"
