"""``@tool``: a scope of its own for each function an agent may call."""

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
    Guard what a tool function of an agent does with its vendors: ``@tool`` or ``@tool(cap=50)``.

    What the function calls is charged to the tool as well as to the run around it, and the tool's
    counts last for the whole run. Without a run around it, every vendor call in it is refused.
    Plain and async functions, methods, generators and async generators stay what they are:
    signature, type hints, docstring, pickling and copying survive. A framework's own decorator
    goes above this one.

    Args:
        fn: The function, when used without parentheses.
        name: What the call log calls the tool; by default the function's name.
        cap: The most the tool may move or cost in one run, in USD.
        max_calls: The most vendor calls it may make in one run.
        max_amount: The most one call may ask for, in USD.
        allow: Endpoint patterns; see :func:`keybrake.run`.
        limits: Endpoint pattern → :class:`keybrake.Limit`.

    Raises:
        PolicyError: Something cannot be meant.
        TypeError: It was put on something that is not a function.
    """
    said = {
        "cap": cap,
        "max_calls": max_calls,
        "max_amount": max_amount,
        "allow": allow,
        "limits": limits,
        "expires_in": None,
    }
    terms = policy.terms_of(policy_from(None, said))

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
        # The hooks have to be in even where no run is open: then every call is refused.
        install()
        return wrapping.Here(ToolFrame(label, terms, caller.active.get()))

    return wrapping.around(function, begin)
