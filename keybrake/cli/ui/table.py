"""Tables: coloured and cut to the width of a terminal; plain and uncut in a pipe."""

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
    """The text of one cell of a table, and its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column.

    Attributes:
        right: Align to the right, as for numbers.
        gives_way: On a narrow terminal, columns with the highest number shrink first; 0: never.
        style: Style of cells that set none.
        optional: Leave the column out if shrinking is not enough, the rightmost first.
    """

    title: str
    right: bool = False
    gives_way: int = 0
    style: str = ""
    optional: bool = False


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
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
    """A table that is printed in batches; columns never get narrower between them."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._widths = [len(column.title) for column in columns]
        self._begun = False
        self._console: Any = console() if is_terminal() else None

    def show(self, rows: Iterable[Sequence[Cell | str]]) -> None:
        """Print *rows*; before the first rows, print the titles."""
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
        """Return the widths that fit the terminal; a column with width 0 is left out."""
        widths = list(self._widths)
        if self._console is None:
            return widths
        optional = [i for i, column in enumerate(self._columns) if column.optional]
        while not self._narrowed(widths) and optional:
            left_out = [*(i for i, width in enumerate(widths) if width == 0), optional.pop()]
            widths = [0 if i in left_out else width for i, width in enumerate(self._widths)]
        return widths

    def _narrowed(self, widths: list[int]) -> bool:
        """Shrink the columns that give way; return whether the table then fits the terminal."""
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
    """Return the width of *text* on a terminal, where some characters take two columns."""
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
