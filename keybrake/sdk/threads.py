"""How a run follows into threads: context variables do not go there by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Thread
from types import ModuleType
from typing import Any

from keybrake.guard.caller import Frame, active
from keybrake.sdk.patch import Hook

# The attribute of a thread, or of a piece of a pool's work, that holds the frame to run it in.
_FRAME = "_keybrake_frame"


def _in_frame(
    frame: Frame | None, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> Any:
    token = active.set(frame)
    try:
        return function(*args, **kwargs)
    finally:
        active.reset(token)


def _carried(frame: Frame | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* so that it runs where *frame* is around it."""

    def carried(*args: Any, **kwargs: Any) -> Any:
        return _in_frame(frame, function, args, kwargs)

    return carried


def _is_pool_worker(thread: Thread) -> bool:
    """Return whether a thread outlives the run that started it; its tasks are carried singly."""
    module = getattr(getattr(thread, "_target", None), "__module__", None)
    return module in ("concurrent.futures.thread", "multiprocessing.pool")


def _remember(thread: Thread) -> None:
    frame = active.get()
    if frame is not None and not _is_pool_worker(thread):
        setattr(thread, _FRAME, frame)


def _start(
    wrapped: Callable[..., Any], instance: Thread, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    _remember(instance)
    return wrapped(*args, **kwargs)


def _start_new_thread(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Do the same one floor lower: tracers and mocks replace ``Thread.start``, and take it back."""
    thread = getattr(args[0], "__self__", None) if args else None
    if isinstance(thread, Thread):
        _remember(thread)
    return wrapped(*args, **kwargs)


def _run(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Run a thread, or a piece of a pool's work, in the frame that was remembered for it."""
    here = instance.__dict__
    if _FRAME not in here:
        return wrapped(*args, **kwargs)
    return _in_frame(here.pop(_FRAME), wrapped, args, kwargs)


def _work_item(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    # Always, also outside of every run: a worker thread keeps the frame around the call that
    # happened to start it, and that is not the frame around this piece of work.
    setattr(instance, _FRAME, active.get())
    return wrapped(*args, **kwargs)


def _pool_task(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    # A pool of processes has the same methods; there, the function has to pickle.
    if type(instance).__name__ != "ThreadPool" or not args:
        return wrapped(*args, **kwargs)
    function, *rest = args
    return wrapped(_carried(active.get(), function), *rest, **kwargs)


def _has(name: str) -> Callable[[ModuleType], bool]:
    return lambda module: hasattr(module, name)


_POOL = "concurrent.futures.thread"

# The method that runs is hooked where neither tracers nor mocks go: whatever they put in place of
# Thread.run or ThreadPoolExecutor.submit, and take out again, ours stays.
HOOKS = (
    Hook("threading", "Thread.start", _start),
    *(
        Hook("threading", name, _start_new_thread, present=_has(name))
        # The second is its name since Python 3.13.
        for name in ("_start_new_thread", "_start_joinable_thread")
    ),
    Hook("threading", "Thread._bootstrap_inner", _run),
    Hook(_POOL, "_WorkItem.__init__", _work_item),
    Hook(_POOL, "_WorkItem.run", _run),
    *(
        Hook("multiprocessing.pool", f"Pool.{name}", _pool_task)
        for name in ("apply_async", "_map_async", "imap", "imap_unordered")
    ),
)
