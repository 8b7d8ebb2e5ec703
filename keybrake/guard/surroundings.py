"""What is around the code that runs: in this context, or else in the whole process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_UNSAID = object()


class Later(Generic[T]):
    """
    Something that is found out when it is first asked for.

    Args:
        find: Finds it out. If this raises, the next caller asks again.
    """

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._found: T | None = None

    def known(self) -> T | None:
        """Return it, if it was found out before."""
        return self._found

    def get(self) -> T:
        """Return it."""
        if self._found is None:
            self._found = self._find()
        return self._found


class Around(Generic[T]):
    """
    A context variable whose default is the frame that the process was started in.

    A thread or a callback that begins with an empty context stands there as well. A context that
    was set to None stands in nothing.
    """

    def __init__(self, name: str) -> None:
        self._here: ContextVar[Any] = ContextVar(name, default=_UNSAID)
        self._process: Later[T] | None = None

    def get(self) -> T | None:
        """Return what is around here."""
        found = self._here.get()
        if found is _UNSAID:
            found = self._process
        around: T | None = found.get() if isinstance(found, Later) else found
        return around

    def known(self) -> T | None:
        """Return what is around here, if nothing has to be found out for that."""
        found = self._here.get()
        if found is _UNSAID:
            found = self._process
        around: T | None = found.known() if isinstance(found, Later) else found
        return around

    def set(self, around: T | Later[T] | None) -> Token[Any]:
        """Put *around* around the code of this context that follows."""
        return self._here.set(around)

    def reset(self, token: Token[Any]) -> None:
        """Put back what was around before the ``set`` that returned *token*."""
        self._here.reset(token)

    def fall_back_on(self, process: Later[T]) -> None:
        """Have *process* around whatever sets nothing else, in every thread of this process."""
        self._process = process
