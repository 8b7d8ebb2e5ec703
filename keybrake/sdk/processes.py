"""How a run follows into other Python processes: objects pickled for them carry its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Self

from keybrake.guard import caller
from keybrake.guard.surroundings import Later
from keybrake.sdk.patch import Hook
from keybrake.sdk.standing import Standing, here


class _Carried:
    """A function that stands, in whatever process, where it was handed in."""

    def __init__(self, standing: Standing, function: Callable[..., Any]) -> None:
        self._standing = standing
        self._function = function

    def __repr__(self) -> str:
        return repr(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._standing.inside():
            return self._function(*args, **kwargs)


class _Sent:
    """
    A process that is started by pickling it; it is itself again where it arrives.

    The function to run is unpickled first, so that its modules are found by then.
    """

    def __init__(self, standing: Standing, process: Any) -> None:
        self._standing = standing
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrive, (self._standing, self._process)


def _arrive(standing: Standing, process: Any) -> Any:
    """Have the whole process, and each of its threads, stand where it was started."""
    standing.take_over()
    around = standing.around()
    if isinstance(around, Later):
        caller.active.fall_back_on(around)
    return process


class _Asked(str):
    """The name that a manager is asked by; the thread that unpickles it stands where it was asked."""

    __slots__ = ("_standing",)

    _standing: Standing

    def __new__(cls, name: str, standing: Standing) -> Self:
        asked = super().__new__(cls, name)
        asked._standing = standing
        return asked

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _answer, (self._standing, str(self))


def _answer(standing: Standing, name: str) -> str:
    standing.take_over()
    caller.active.set(standing.around())
    return name


Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


def _launch(wrapped: Callable[..., Any], _popen: Any, args: Args, kwargs: Kwargs) -> Any:
    standing = here()
    if not standing.binds or not args:
        return wrapped(*args, **kwargs)
    process, *rest = args
    return wrapped(_Sent(standing, process), *rest, **kwargs)


def _task(wrapped: Callable[..., Any], pool: Any, args: Args, kwargs: Kwargs) -> Any:
    from multiprocessing.pool import ThreadPool

    # Always, also outside of every run: a worker keeps the frame that it was started in.
    if isinstance(pool, ThreadPool):
        return wrapped(*args, **kwargs)
    if args:
        function, *rest = args
        return wrapped(_Carried(here(), function), *rest, **kwargs)
    if "func" in kwargs:
        return wrapped(**{**kwargs, "func": _Carried(here(), kwargs["func"])})
    return wrapped(*args, **kwargs)


def _work_item(wrapped: Callable[..., Any], _item: Any, args: Args, kwargs: Kwargs) -> Any:
    future, function, *rest = args
    return wrapped(future, _Carried(here(), function), *rest, **kwargs)


def _call_method(wrapped: Callable[..., Any], proxy: Any, args: Args, kwargs: Kwargs) -> Any:
    standing, connection = here(), proxy._tls
    # A thread of the manager serves one connection, and keeps the frame it was sent last.
    said = standing.binds or getattr(connection, "keybrake_was_said", False)
    if not said or proxy._serializer != "pickle":
        return wrapped(*args, **kwargs)
    connection.keybrake_was_said = True
    return _named(wrapped, "methodname", standing, args, kwargs)


def _create(wrapped: Callable[..., Any], manager: Any, args: Args, kwargs: Kwargs) -> Any:
    standing = here()
    if not standing.binds or not args or manager._serializer != "pickle":
        return wrapped(*args, **kwargs)
    return _named(wrapped, "typeid", standing, args, kwargs)


def _named(
    wrapped: Callable[..., Any], parameter: str, standing: Standing, args: Args, kwargs: Kwargs
) -> Any:
    if args:
        name, *rest = args
        return wrapped(_Asked(name, standing), *rest, **kwargs)
    return wrapped(**{**kwargs, parameter: _Asked(kwargs[parameter], standing)})


def _has(name: str) -> Callable[[ModuleType], bool]:
    """Return a function that says whether a version of a package has a place at all."""
    first, second = name.split(".")
    return lambda module: hasattr(getattr(module, first, None), second)


# Loky's executor, by itself and as joblib brings it along, is made like that of Python.
_LOKY_PLACES = tuple(
    Hook(f"{loky}.{module}", name, wrapper, present=_has(name))
    for loky in ("loky", "joblib.externals.loky")
    for module, name, wrapper in (
        ("process_executor", "_WorkItem.__init__", _work_item),
        ("backend.popen_loky_posix", "Popen._launch", _launch),
    )
)

HOOKS = (
    Hook("multiprocessing.popen_spawn_posix", "Popen._launch", _launch, ("process_obj",)),
    Hook("multiprocessing.popen_forkserver", "Popen._launch", _launch, ("process_obj",)),
    *(
        Hook("multiprocessing.pool", f"Pool.{name}", _task, ("func",))
        for name in ("apply_async", "_map_async", "imap", "imap_unordered")
    ),
    Hook("multiprocessing.managers", "BaseProxy._callmethod", _call_method, ("methodname",)),
    Hook("multiprocessing.managers", "BaseManager._create", _create, ("typeid",)),
    # Below submit(), which tracers and mocks replace, and put back as it was before.
    Hook("concurrent.futures.process", "_WorkItem.__init__", _work_item, ("fn",)),
    *_LOKY_PLACES,
)
