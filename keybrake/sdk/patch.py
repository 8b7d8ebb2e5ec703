"""Hooks in other libraries' classes: put in and taken out, beside the wrappers of others."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

from keybrake.errors import UnsupportedSDK
from keybrake.model.waiting import Native


@dataclass(frozen=True, slots=True)
class Hook:
    """
    One function to wrap.

    Attributes:
        module: Where it lives; hooked when that is imported.
        name: Dotted path within the module; empty: only *check* runs.
        wrapper: Called as wrapt calls wrappers.
        parameters: Names the function must have, else it is not the one that is meant.
        check: Looks at the module first; raises ``UnsupportedSDK``.
        present: Says whether this version has the place at all; None: every one has.
        binds: The wrapper itself finds its object in the arguments, if another wrapper passed it on.
    """

    module: str
    name: str = ""
    wrapper: Callable[..., Any] | None = None
    parameters: tuple[str, ...] = ()
    check: Callable[[ModuleType], None] | None = None
    present: Callable[[ModuleType], bool] | None = None
    binds: bool = False


_lock = Native()
_on = False
# By the module they live in; each import of one of them asks here.
_hooks: dict[str, tuple[Hook, ...]] = {}


class _In(NamedTuple):
    """One hook that is in: its wrapper, and the module object that holds the wrapped function."""

    module: weakref.ref[ModuleType]
    handle: Any


# A module that is imported anew or reloaded has functions of its own: each has its own wrapper.
_handles: dict[Hook, list[_In]] = {}


class _Found(NamedTuple):
    """A place as it was when it was last looked at: the class or module, the name in it, the value."""

    owner: Any
    name: str
    value: Any


_as_left: tuple[_Found, ...] = ()


def is_on() -> bool:
    """Return whether the hooks do anything; wrapt asks before each call."""
    return _on


def install(hooks: Iterable[Hook]) -> None:
    """Hook the modules that are imported, and each one when it is imported. Raises ``UnsupportedSDK``."""
    global _on  # noqa: PLW0603 -- one switch for all hooks of the process
    given = tuple(hooks)
    for name in {hook.module for hook in given}:
        if _is_loading(sys.modules.get(name)):
            importlib.import_module(name)  # waits for the thread that imports it
    with _lock:
        for hook in given:
            if hook not in _hooks.get(hook.module, ()):
                _hooks[hook.module] = (*_hooks.get(hook.module, ()), hook)
        for hook in (*_IMPORTS, *given):
            module = sys.modules.get(hook.module)
            if module is not None and not _is_loading(module):
                _apply(hook, module)
        _remember_all()
        _on = True


def put_back() -> bool:
    """
    Put back each hook that another library took out since the hooks were last looked at.

    A mock that was there first puts the plain function back when it ends, and so does a tracer. A place
    where something unlike the SDK's function stands stays as it is: the next run does not begin.

    Returns:
        Whether one was out.
    """
    if not _on or all(vars(owner).get(name) is value for owner, name, value in _as_left):
        return False
    with _lock:
        was_out = False
        for hook in (hook for hooks in tuple(_hooks.values()) for hook in hooks):
            module = sys.modules.get(hook.module)
            if module is not None and not _is_loading(module):
                with contextlib.suppress(UnsupportedSDK):
                    was_out |= _put_in(hook, module)
        _remember_all()
        return was_out


def _remember_all() -> None:
    """Remember how each place is now, so that a change of it is seen at once."""
    global _as_left  # noqa: PLW0603 -- replaced as a whole, so that other threads see old or new
    found = []
    for hook in (hook for hooks in tuple(_hooks.values()) for hook in hooks):
        owner: Any = sys.modules.get(hook.module)
        *path, name = hook.name.split(".")
        for part in path:
            owner = None if owner is None else vars(owner).get(part)
        if name and owner is not None and hasattr(owner, "__dict__"):
            found.append(_Found(owner, name, vars(owner).get(name)))
    _as_left = tuple(found)


def _is_loading(module: ModuleType | None) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _find_spec(
    wrapped: Callable[..., Any], _module: Any, args: tuple[Any, ...], kwargs: Any
) -> ModuleSpec | None:
    """Find a module as Python does, and give one that has hooks a loader that hooks it."""
    spec: ModuleSpec | None = wrapped(*args, **kwargs)
    if spec is None or spec.name not in _hooks or isinstance(spec.loader, _Loader):
        return spec
    if hasattr(spec.loader, "exec_module"):
        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # it has all that one has
    return spec


class _Loader:
    """A module's own loader that hooks the module once its code has run: at import and at reload."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the module's own loader."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then hook it; a module that cannot be guarded is not imported."""
        # Tools that read the source ask the module for its loader: they get its own.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        with _lock:
            for hook in _hooks.get(module.__name__, ()) if _on else ():
                _apply(hook, module)
            _remember_all()


# Every import and every reload passes here, whatever stands in sys.meta_path and in which order. The
# second is called by tools that load a module by themselves.
_IMPORTS = (
    Hook("importlib._bootstrap", "_find_spec", _find_spec, ("name", "path", "target")),
    Hook("importlib.util", "_find_spec", _find_spec, ("name", "path", "target")),
)


def _apply(hook: Hook, module: ModuleType) -> None:
    if hook.check is not None:
        hook.check(module)
    _put_in(hook, module)


def _put_in(hook: Hook, module: ModuleType) -> bool:
    """Put a hook into its place; return whether it was not in there."""
    if not hook.name or (hook.present is not None and not hook.present(module)):
        return False
    found = _look_up(hook, module)
    if _is_mock(found) or _is_in(hook, found):
        return False
    if hook.wrapper is None:
        msg = f"the hook of {hook.module}.{hook.name} has no wrapper"
        raise TypeError(msg)
    # A function of a module is never called as a method.
    is_method = "." in hook.name and not hook.binds
    wrapper = _bound(hook.wrapper) if is_method else hook.wrapper
    # A module may be found while install() is still at work, and is executed only after it.
    enabled = None if hook in _IMPORTS else is_on
    handle = wrapt.wrap_object(
        module, hook.name, wrapt.FunctionWrapper, (wrapper,), {"enabled": enabled}
    )
    alive = [one for one in _handles.get(hook, ()) if one.module() is not None]
    _handles[hook] = [*alive, _In(weakref.ref(module), handle)]
    return True


def _is_in(hook: Hook, found: Any) -> bool:
    """Return whether our wrapper is anywhere in the chain of wrappers around a function."""
    handles = [one.handle for one in _handles.get(hook, ())]

    def ours(link: Any) -> bool:
        # A library that wraps the bound method, not the class attribute, has a bound wrapper.
        parent = getattr(link, "_self_parent", None)
        return any(link is handle or parent is handle for handle in handles)

    return bool(handles) and wrapt.is_wrapped_by(found, predicate=ours)


def _bound(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper of a method that works, too, when a wrapper above passes ``self`` along."""

    def bound(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        if instance is None and args:
            instance, *rest = args
            return wrapper(functools.partial(wrapped, instance), instance, tuple(rest), kwargs)
        return wrapper(wrapped, instance, args, kwargs)

    return bound


def _look_up(hook: Hook, module: ModuleType) -> Any:
    found: Any = module
    for part in hook.name.split("."):
        found = inspect.getattr_static(found, part, None)
    if found is None:
        raise _looks_different(hook, "is not there")
    if missing := _missing(hook.parameters, found):
        raise _looks_different(hook, f"has no parameter {min(missing)!r}")
    return found


def _is_mock(found: Any) -> bool:
    """Return whether a mock stands in a place: nothing is sent by it, and it goes as it came."""
    kind = getattr(sys.modules.get("unittest.mock"), "NonCallableMock", None)
    return kind is not None and isinstance(found, kind)


_ANY = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _missing(wanted: Iterable[str], function: Any) -> set[str]:
    """Return the parameters that a function lacks; one that takes any may be a tracer's around it."""
    try:
        given = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        given = {}
    if {parameter.kind for parameter in given.values()} >= _ANY:
        return set()
    return set(wanted) - set(given)


def _looks_different(hook: Hook, how: str) -> UnsupportedSDK:
    package = hook.module.partition(".")[0]
    return UnsupportedSDK(
        f"{hook.module}.{hook.name} {how}: this version of {package} is not one keybrake can "
        f"guard, so no call may go through it; install a supported version (keybrake doctor)"
    )


def uninstall() -> None:
    """Take every hook out. A hook that another library wrapped stays in the chain, switched off."""
    global _on  # noqa: PLW0603 -- one switch for all hooks of the process
    with _lock:
        _on = False
        for hook, places in list(_handles.items()):
            _handles[hook] = [one for one in places if not _taken_out(hook, one)]


def _taken_out(hook: Hook, one: _In) -> bool:
    """Take one wrapper out; return whether it is out for good."""
    module = one.module()
    if module is None:
        return True
    try:
        wrapt.unwrap_object(module, hook.name, one.handle)
    except (AttributeError, wrapt.WrapperNotOutermostError, wrapt.WrapperNotFoundError):
        return False
    return True


def status(hooks: Iterable[Hook]) -> list[tuple[str, str]]:
    """Return each place and how its hook stands."""
    return [(f"{h.module}.{h.name}", _status(h)) for h in hooks if h.name]


def _status(hook: Hook) -> str:
    module = sys.modules.get(hook.module)
    if module is None:
        return "waiting"
    if hook.present is not None and not hook.present(module):
        return "not in this version"
    return "in place" if _on and _is_in(hook, _look_up(hook, module)) else "missing"
