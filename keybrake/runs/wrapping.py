"""Wrap functions so that they run inside a frame: plain, async, generator, async generator."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from types import TracebackType
from typing import Any, TypeVar

from keybrake.guard.caller import Frame, active

F = TypeVar("F", bound=Callable[..., Any])


class Here:
    """A context manager that returns an existing frame; entering and leaving it do nothing."""

    def __init__(self, frame: Frame | None) -> None:
        self._frame = frame

    def __enter__(self) -> Frame | None:
        """Return the frame."""
        return self._frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""

    async def __aenter__(self) -> Frame | None:
        """Return the frame."""
        return self._frame

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""


@contextlib.contextmanager
def standing_in(frame: Frame | None) -> Iterator[None]:
    """Make *frame* the active one inside a block."""
    token = active.set(frame)
    try:
        yield
    finally:
        # A coroutine may be closed in another context than the one it ran in. reset() then raises
        # ValueError, and there is nothing to restore: the first context is gone.
        with contextlib.suppress(ValueError):
            active.reset(token)


def around(function: F, begin: Callable[[], Any]) -> F:
    """
    Return a wrapper of *function* that runs each call inside the context that *begin* returns.

    The wrapper keeps signature, annotations, docstring and kind, and like *function* it pickles and
    copies by name. A generator is in the frame only while its own code runs, not while its consumer
    runs.
    """
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, begin)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, begin)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, begin)
    else:
        wrapper = _plain(function, begin)
    return functools.wraps(function)(wrapper)  # type: ignore[return-value]


def _plain(function: Callable[..., Any], begin: Callable[[], Any]) -> Callable[..., Any]:
    def plain(*args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            frame = stack.enter_context(begin())
            with standing_in(frame):
                result = function(*args, **kwargs)
            if not inspect.iscoroutine(result):
                return result
            # A lambda or partial returned a coroutine, which has not started: keep the context open.
            return _awaited(result, frame, stack.pop_all())

    return plain


async def _awaited(coroutine: Any, frame: Frame | None, stack: contextlib.ExitStack) -> Any:
    with stack, standing_in(frame):
        return await coroutine


def _coroutine(function: Callable[..., Any], begin: Callable[[], Any]) -> Callable[..., Any]:
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        async with begin() as frame:
            with standing_in(frame):
                return await function(*args, **kwargs)

    return coroutine


def _generator(function: Callable[..., Any], begin: Callable[[], Any]) -> Callable[..., Any]:
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with begin() as frame:
            return (yield from _steps(function(*args, **kwargs), frame))

    return generator


def _steps(inner: Generator[Any, Any, Any], frame: Frame | None) -> Generator[Any, Any, Any]:
    step, given = inner.send, None
    try:
        while True:
            try:
                with standing_in(frame):
                    item = step(given)
            except StopIteration as end:
                return end.value
            try:
                given = yield item
                step = inner.send
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 -- passed to the inner generator
                step, given = inner.throw, error
    finally:
        with standing_in(frame):
            inner.close()


def _async_generator(function: Callable[..., Any], begin: Callable[[], Any]) -> Callable[..., Any]:
    async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with begin() as frame:
            inner = function(*args, **kwargs)
            step, given = inner.asend, None
            try:
                while True:
                    try:
                        with standing_in(frame):
                            item = await step(given)
                    except StopAsyncIteration:
                        return
                    try:
                        given = yield item
                        step = inner.asend
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 -- passed to the inner one
                        step, given = inner.athrow, error
            finally:
                with standing_in(frame):
                    await inner.aclose()

    return generator
