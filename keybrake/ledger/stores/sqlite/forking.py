"""What has to be at rest while this process forks, or the child would find it half done for ever."""

from __future__ import annotations

import logging  # noqa: F401 -- its own hook has to be registered before, that is, run after ours
import os
from collections.abc import Callable

# Before a fork it lets nobody in until the fork is over, a thread that is importing it included.
# If it came later than our hooks, a fork would wait for that thread, and the thread for the fork.
import filelock  # noqa: F401 -- loaded here for its hooks alone

from keybrake.model.waiting import Mutex

# A thread that itself forks from inside one of these would wait for itself: give up then.
PATIENCE_S = 10.0

# Held while the modules of a ledger may be loading. Its file is made under its own lock.
opening = Mutex()

_taken: list[bool] = []
_more: list[tuple[Callable[[], None], Callable[[bool], None]]] = []


def also(before: Callable[[], None], after: Callable[[bool], None]) -> None:
    """Have *before* called ahead of each fork, inside ``opening``; *after* is told if it is the child."""
    _more.append((before, after))


def _before() -> None:
    # A thread that forks in the middle of opening has it already, and gives it back itself.
    _taken.append(not opening.is_mine() and opening.acquire(PATIENCE_S))
    for before, _ in _more:
        before()


def _after_in_parent() -> None:
    _let_go(child=False)


def _after_in_child() -> None:
    _let_go(child=True)


def _let_go(*, child: bool) -> None:
    for _, after in _more:
        after(child)
    # Whoever held it in the parent is not in the child to give it back. An interrupt may have kept
    # the parent from taking it.
    taken = _taken.pop() if _taken else False
    if taken or (child and opening.locked()):
        opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
