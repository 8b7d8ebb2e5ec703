"""How a run follows into threads: context variables do not go there by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any

from keybrake._scope import Frame, active
from keybrake.sdk._patch import Hook


def _carried(frame: Frame | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* so that it runs where *frame* is around it."""

    def carried(*args: Any, **kwargs: Any) -> Any:
        token = active.set(frame)
        try:
            return function(*args, **kwargs)
        finally:
            active.reset(token)

    return carried


def _is_pool_worker(thread: Thread) -> bool:
    """Return whether a thread outlives the run that started it; its tasks are carried singly."""
    module = getattr(getattr(thread, "_target", None), "__module__", None)
    return module in ("concurrent.futures.thread", "multiprocessing.pool")


def _start(
    wrapped: Callable[..., Any], instance: Thread, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    frame = active.get()
    if frame is not None and not _is_pool_worker(instance):
        # On the instance, so that a subclass with a run() of its own is carried, too.
        run = instance.run

        def carried() -> None:
            instance.__dict__.pop("run", None)
            _carried(frame, run)()

        instance.run = carried  # type: ignore[method-assign]
    return wrapped(*args, **kwargs)


def _submit(
    wrapped: Callable[..., Future[Any]],
    _instance: ThreadPoolExecutor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Future[Any]:
    if not args:
        return wrapped(*args, **kwargs)
    # Always, also outside of every run: a worker thread keeps what was around the call that
    # happened to start it, and that is not what is around this one.
    function, *rest = args
    return wrapped(_carried(active.get(), function), *rest, **kwargs)


def _pool_task(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    # A pool of processes has the same methods; there, what is handed in has to pickle.
    if type(instance).__name__ != "ThreadPool" or not args:
        return wrapped(*args, **kwargs)
    function, *rest = args
    return wrapped(_carried(active.get(), function), *rest, **kwargs)


HOOKS = (
    Hook("threading", "Thread.start", _start),
    Hook("concurrent.futures.thread", "ThreadPoolExecutor.submit", _submit),
    *(
        Hook("multiprocessing.pool", f"Pool.{name}", _pool_task)
        for name in ("apply_async", "_map_async", "imap", "imap_unordered")
    ),
)
