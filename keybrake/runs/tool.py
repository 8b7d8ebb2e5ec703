"""``@tool``: gives each tool function of an agent a scope with its own limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from keybrake.guard import caller
from keybrake.guard.caller import ToolFrame
from keybrake.policy import policy
from keybrake.policy.policy import Terms
from keybrake.runs import wrapping
from keybrake.runs.arguments import Amount, Limits, parse_label, policy_from
from keybrake.runs.install import install

F = TypeVar("F", bound=Callable[..., Any])


@overload
def tool(fn: F) -> F: ...


@overload
def tool(
    fn: None = None,
    *,
    name: str | None = None,
    cap: Amount | None = None,
    max_calls: int | None = None,
    max_amount: Amount | None = None,
    allow: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> Callable[[F], F]: ...


def tool(  # noqa: PLR0913 -- one keyword per promise
    fn: F | None = None,
    *,
    name: str | None = None,
    cap: Amount | None = None,
    max_calls: int | None = None,
    max_amount: Amount | None = None,
    allow: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> F | Callable[[F], F]:
    """
    Limit the vendor calls of a tool function of an agent: ``@tool`` or ``@tool(cap=50)``.

    Each vendor call in the function is charged to the tool and to the enclosing run. The tool's
    counts last for the whole run. Without an enclosing run every vendor call in it is refused.
    Works on plain and async functions, methods, generators and async generators, and keeps their
    signature, type hints and docstring; they still pickle and copy. Put a framework's decorator
    above this one.

    Args:
        fn: The function, when used without parentheses.
        name: Name of the tool in the call log; by default the function's name.
        cap: The most the tool may move or cost in one run, in USD.
        max_calls: The most vendor calls it may make in one run.
        max_amount: The most one call may ask for, in USD.
        allow: Endpoint patterns; see :func:`keybrake.run`.
        limits: Endpoint pattern → :class:`keybrake.Limit`.

    Raises:
        PolicyError: An argument is invalid.
        TypeError: The decorated object is not a function.
    """
    given = {
        "cap": cap,
        "max_calls": max_calls,
        "max_amount": max_amount,
        "allow": allow,
        "limits": limits,
        "expires_in": None,
    }
    terms = policy.terms_of(policy_from(None, given))

    def decorate(function: F) -> F:
        return _decorated(function, name, terms)

    return decorate if fn is None else decorate(fn)


def _decorated(function: F, name: str | None, terms: Terms) -> F:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_decorated(function.__func__, name, terms))
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        kind = f"{type(function).__module__}.{type(function).__qualname__}"
        msg = (
            f"@keybrake.tool was put on an object of type {kind}, and would guard nothing there. "
            f"Put it directly on the function, below the framework's decorator:\n"
            f"    @framework_tool\n    @keybrake.tool\n    def …\n"
            f"A name is given as @keybrake.tool(name=…)."
        )
        raise TypeError(msg)
    label = parse_label(function.__name__ if name is None else name, field="name")

    def begin() -> wrapping.Here:
        # Install the hooks even if no run is open: they refuse every vendor call in the tool.
        install()
        return wrapping.Here(ToolFrame(label, terms, caller.active.get()))

    return wrapping.around(function, begin)
