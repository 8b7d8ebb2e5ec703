"""Print the demo: its lines, its bars and its pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.text import Text

from keybrake.cli.ui.table import Cell, Table, console, is_terminal
from keybrake.cli.ui.text import safe

_BAR = 20
_ACT_WIDTH = 78
_BEAT_S = 0.06


class Stage:
    """
    Prints the demo. Two agents may print at the same time; their lines do not mix.

    Args:
        is_shown: If False, print nothing.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._console = console()
        self._lock = threading.Lock()
        self._is_shown = is_shown
        self._paced = is_shown and is_terminal()

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line of text and (text, style) pairs."""
        if not self._is_shown:
            return
        shown = (
            safe(part) if isinstance(part, str) else (safe(part[0]), part[1]) for part in parts
        )
        with self._lock:
            self._console.print(Text.assemble(*shown, no_wrap=False))

    def table(self, table: Table, lines: Iterable[Sequence[Cell | str]]) -> None:
        """Print a table."""
        if self._is_shown:
            table.show(lines)

    def act(self, number: int, title: str, *story: str) -> None:
        """Print the title and the story of an act."""
        self.rest(4)
        rule = "─" * max(0, _ACT_WIDTH - len(title) - 6)
        self.say("")
        self.say((f"── {number} ", "cyan"), (title, "bold cyan"), (f" {rule}", "cyan"))
        self.rest(2)
        for line in story:
            self.say(line)
        if story:
            self.say("")
            self.rest(4)

    def line(self, label: str, step: str, outcome: str, style: str, why: str) -> None:
        """Print a call of the run *label* and its outcome."""
        shown = (f"{outcome:<9}", f"bold {style}")
        self.say((f"  {label:<14}", "bold"), f"{step:<34}", shown, (why, style))

    def sent(self, label: str, step: str, spent: Decimal, cap: str) -> None:
        """Print a call that was sent, and the used part of the cap."""
        full = int(_BAR * spent / Decimal(cap))
        self.say(
            (f"  {label:<14}", "bold"),
            f"{step:<34}",
            ("sent     ", "green"),
            ("━" * full, "yellow"),
            ("─" * (_BAR - full), "dim"),
            (f" ${spent} of ${cap}", "dim"),
        )
        self.rest()

    def refused(self, label: str, step: str, why: str) -> None:
        """Print a call that was refused."""
        self.line(label, step, "REFUSED", "red", why)
        self.rest(3)

    def command(self, text: str) -> None:
        """Print a command with a shell prompt before it."""
        self.say(("  $ ", "dim"), (text, "bold"))

    def rest(self, beats: int = 1) -> None:
        """Pause for *beats*, so that a person has time to read; without a terminal, do not pause."""
        if self._paced:
            time.sleep(beats * _BEAT_S)
