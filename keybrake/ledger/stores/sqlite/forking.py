"""Fork hooks: a fork waits until no thread is inside the ledger, and resets the child's copies."""

from __future__ import annotations

import logging  # noqa: F401 -- hooks run in reverse order of import, and its hook must run after ours
import os
from collections.abc import Callable

# filelock's fork hook stops every thread that uses filelock, or imports it, until the fork is over.
# If that hook ran before ours, a thread holding our lock could wait for the fork, while the fork
# waits for our lock. So import filelock before we register our hooks.
import filelock  # noqa: F401 -- imported only for its fork hooks

from keybrake.model.waiting import Mutex

# How long a fork waits for one of our locks before it goes on without. A thread that forks while it
# holds a lock would otherwise wait for itself.
PATIENCE_S = 10.0

# open_ledger() holds it while it imports the modules of a store. It does not protect the file: the
# ledger's own lock does.
opening = Mutex()

_taken: list[bool] = []
_more: list[tuple[Callable[[], None], Callable[[bool], None]]] = []


def also(before: Callable[[], None], after: Callable[[bool], None]) -> None:
    """Register hooks that run while ``opening`` is held; *after* gets True in the child."""
    _more.append((before, after))


def _before() -> None:
    # If the forking thread itself holds the mutex, it also releases it, after the fork.
    _taken.append(not opening.is_mine() and opening.acquire(PATIENCE_S))
    for before, _ in _more:
        before()


def _after_in_parent() -> None:
    _after(child=False)


def _after_in_child() -> None:
    _after(child=True)


def _after(*, child: bool) -> None:
    for _, after in _more:
        after(child)
    # _taken is empty if an interrupt hit before the parent took the mutex. In the child, also release
    # the mutex if another thread of the parent held it: that thread does not exist here.
    taken = _taken.pop() if _taken else False
    if taken or (child and opening.locked()):
        opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
