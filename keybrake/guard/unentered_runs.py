"""Runs that were made and never entered: they guard nothing, and nobody notices."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from warnings import warn_explicit

_log = logging.getLogger("keybrake")


@dataclass(eq=False, slots=True)
class Made:
    """
    A run that was made, until it is entered.

    Attributes:
        name: The run as its ``repr`` shows it.
        file: The source file that made it; *line* is the line in it.
        pid: The process that made it; a forked child need not enter it.
    """

    name: str
    file: str
    line: int
    pid: int

    def settle(self) -> None:
        """Take note that the run was entered, or decorates a function."""
        _waiting.discard(self)


_waiting: set[Made] = set()


def made(run: object, name: str, place: tuple[str, int] | None) -> Made:
    """Take note of a new run; if it ends without being entered, a warning says so."""
    file, line = place or ("<unknown>", 1)
    one = Made(name, file, line, os.getpid())
    _waiting.add(one)
    # Also at the end of the process, for a run that a global variable or a notebook still holds.
    weakref.finalize(run, _ended, one)
    return one


def any_waits() -> bool:
    """Return whether a run waits to be entered."""
    return bool(_waiting)


def warn_of_call(what: str) -> None:
    """Warn that a call went out unguarded while runs wait to be entered; once for each run."""
    for one in _taken():
        _warn(one, f"{what} while {_words(one)}")


def _taken() -> Iterator[Made]:
    while _waiting:
        with suppress(KeyError):
            one = _waiting.pop()
            if one.pid == os.getpid():
                yield one


def _ended(one: Made) -> None:
    if one in _waiting and one.pid == os.getpid():
        _warn(one, _words(one))
    _waiting.discard(one)


def _words(one: Made) -> str:
    return (
        f"{one.name} was made ({one.file}:{one.line}) and never entered, so it guards nothing; "
        f"write `with keybrake.run(...):` around the calls"
    )


def _warn(one: Made, message: str) -> None:
    _log.warning(message)
    # Where warnings are errors, log this one: no caller could catch it.
    with suppress(RuntimeWarning):
        warn_explicit(message, RuntimeWarning, one.file, one.line)
