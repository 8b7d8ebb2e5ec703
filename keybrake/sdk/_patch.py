"""How a hook gets into somebody else's class, and out again, whoever else has been there."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import wrapt

from keybrake._waiting import Native
from keybrake.errors import UnsupportedSDK


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
    """

    module: str
    name: str = ""
    wrapper: Callable[..., Any] | None = None
    parameters: tuple[str, ...] = ()
    check: Callable[[ModuleType], None] | None = None
    present: Callable[[ModuleType], bool] | None = None


_lock = Native()
_on = False
_waiting: set[Hook] = set()
_handles: dict[Hook, Any] = {}


def is_on() -> bool:
    """Return whether the hooks do anything; wrapt asks before each call."""
    return _on


def install(hooks: Iterable[Hook]) -> None:
    """Hook what is imported already, and wait for the rest. Raises ``UnsupportedSDK``."""
    global _on  # noqa: PLW0603 -- one switch for all hooks of the process
    with _lock:
        for hook in hooks:
            module = sys.modules.get(hook.module)
            if module is not None and not _is_loading(module):
                _apply(hook, module)
            elif hook not in _waiting:
                _wait_for(hook)
        _on = True


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _wait_for(hook: Hook) -> None:
    _waiting.add(hook)
    wrapt.register_post_import_hook(lambda module: _imported(hook, module), hook.module)


def _imported(hook: Hook, module: ModuleType) -> None:
    with _lock:
        _waiting.discard(hook)
        if not _on:
            return  # uninstalled meanwhile; a later install() finds the module imported
        try:
            _apply(hook, module)
        except UnsupportedSDK:
            # Python takes a module whose import failed out of sys.modules; the next attempt to
            # import it has to meet this hook again, or it would go through unguarded.
            sys.modules.pop(hook.module, None)
            _wait_for(hook)
            raise


def _apply(hook: Hook, module: ModuleType) -> None:
    if hook.check is not None:
        hook.check(module)
    if not hook.name or (hook.present is not None and not hook.present(module)):
        return
    if _is_in(hook, _look_up(hook, module)):
        return
    assert hook.wrapper is not None
    _handles[hook] = wrapt.wrap_object(
        module, hook.name, wrapt.FunctionWrapper, (_bound(hook.wrapper),), {"enabled": is_on}
    )


def _is_in(hook: Hook, found: Any) -> bool:
    """Return whether our wrapper is anywhere in the chain of wrappers around a function."""
    handle = _handles.get(hook)

    def ours(link: Any) -> bool:
        # Who wraps what the class hands out, rather than what it holds, has a bound wrapper.
        return link is handle or getattr(link, "_self_parent", None) is handle

    return handle is not None and wrapt.is_wrapped_by(found, predicate=ours)


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
    if missing := set(hook.parameters) - set(_parameters(found)):
        raise _looks_different(hook, f"has no parameter {min(missing)!r}")
    return found


def _parameters(function: Any) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()


def _looks_different(hook: Hook, how: str) -> UnsupportedSDK:
    package = hook.module.partition(".")[0]
    return UnsupportedSDK(
        f"{hook.module}.{hook.name} {how}: this version of {package} is not one keybrake can "
        f"guard, so no call may go through it; install a supported version (keybrake doctor)"
    )


def uninstall() -> None:
    """Take every hook out. One that somebody else wrapped stays in the chain, switched off."""
    global _on  # noqa: PLW0603 -- one switch for all hooks of the process
    with _lock:
        _on = False
        for hook, handle in list(_handles.items()):
            module = sys.modules.get(hook.module)
            if module is None:
                continue
            try:
                wrapt.unwrap_object(module, hook.name, handle)
            except (wrapt.WrapperNotOutermostError, wrapt.WrapperNotFoundError):
                continue
            del _handles[hook]


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
