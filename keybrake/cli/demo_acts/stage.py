"""How the demo looks: its lines, its bars and its pace."""

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
    What the audience sees. Two agents may speak at once; their lines do not mix.

    Args:
        is_shown: Whether there is one.
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
        """Begin an act: its title, and what it is about."""
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

    def line(self, who: str, what: str, came_of_it: str, style: str, why: str) -> None:
        """Tell of a call and what came of it."""
        outcome = (f"{came_of_it:<9}", f"bold {style}")
        self.say((f"  {who:<14}", "bold"), f"{what:<34}", outcome, (why, style))

    def sent(self, who: str, what: str, spent: Decimal, cap: str) -> None:
        """Tell of a call that went out, and of how full its cap is now."""
        full = int(_BAR * spent / Decimal(cap))
        self.say(
            (f"  {who:<14}", "bold"),
            f"{what:<34}",
            ("sent     ", "green"),
            ("━" * full, "yellow"),
            ("─" * (_BAR - full), "dim"),
            (f" ${spent} of ${cap}", "dim"),
        )
        self.rest()

    def refused(self, who: str, what: str, why: str) -> None:
        """Tell of a call that did not go out."""
        self.line(who, what, "REFUSED", "red", why)
        self.rest(3)

    def command(self, text: str) -> None:
        """Show a command as somebody would type it."""
        self.say(("  $ ", "dim"), (text, "bold"))

    def rest(self, beats: int = 1) -> None:
        """Leave a person the time to read."""
        if self._paced:
            time.sleep(beats * _BEAT_S)
