"""The options of commands that open a run: ``--cap``, ``--allow``, ``--limit`` and the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

NONE = "none"
_LIMIT = "PATTERN:cap=50,max_calls=5,per=1h"

Limits = dict[str, dict[str, Any]]
F = TypeVar("F", bound=Callable[..., Any])


def _limits(ctx: click.Context, param: click.Parameter, said: Sequence[str]) -> Limits | None:
    """Return the limits by pattern; a pattern may contain colons, so split at the last one."""
    found: Limits = {}
    for text in said:
        pattern, _, parts = text.rpartition(":")
        if not pattern or pattern in found:
            why = "names its pattern twice" if pattern else f"is no limit; write {_LIMIT}"
            msg = f"{text!r:.100} {why}"
            raise click.BadParameter(msg, ctx, param)
        found[pattern] = {}
        for part in parts.split(","):
            name, value = _part(part, ctx, param)
            if found[pattern].setdefault(name, value) is not value:
                msg = f"{text!r:.100} says {name} twice"
                raise click.BadParameter(msg, ctx, param)
    return found or None


def _part(text: str, ctx: click.Context, param: click.Parameter) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in ("cap", "max_calls", "per") or not value:
        msg = f"{text!r:.100} is neither cap=USD nor max_calls=N nor per=WINDOW; write {_LIMIT}"
        raise click.BadParameter(msg, ctx, param)
    is_count = name == "max_calls" and value.isascii() and value.isdigit() and len(value) < 20
    return name, int(value) if is_count else value


_OPTIONS = (
    click.option("--cap", metavar="USD|none", help='Most money; "none" is no cap, in writing.'),
    click.option("--daily-cap", "daily_usd_cap", metavar="USD", help="Most money a day in UTC."),
    click.option("--max-calls", type=click.IntRange(min=0), metavar="N", help="Most vendor calls."),
    click.option("--max-amount", metavar="USD", help="Most that one call may ask for."),
    click.option("--allow", multiple=True, metavar="PATTERN", help="Only these; may be repeated."),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        callback=_limits,
        metavar=_LIMIT,
        help="May be repeated.",
    ),
    click.option(
        "--policy",
        metavar="NAME",
        help="A policy in keybrake.toml; the other options override it.",
    ),
)


def policy_options(*, lifetime: str, name: str) -> Callable[[F], F]:
    """
    Return a decorator that adds the options to a command; ``policy_arguments`` turns them into arguments.

    Args:
        lifetime: Default lifetime of the run, for the help.
        name: Default label of the run, for the help.
    """
    expiry = click.option(
        "--expires-in", metavar="2h|none", help=f"Default: that of --policy, else {lifetime}."
    )
    label = click.option(
        "--label", metavar="TEXT", help=f"What the call log calls it, if not {name}."
    )

    def decorate(function: F) -> F:
        for option in reversed((*_OPTIONS, expiry, label)):
            function = option(function)
        return function

    return decorate


def policy_arguments(
    ctx: click.Context,
    *,
    cap: str | None,
    policy: str | None,
    expires_in: str | None,
    **said: Any,
) -> dict[str, Any]:
    """Return the options as keyword arguments of ``issue_vault_key``."""
    if cap is None and policy is None and said["daily_usd_cap"] is None:
        msg = (
            f"Say --cap USD, --daily-cap USD or --policy NAME; --cap {NONE} is no cap, in writing."
        )
        raise click.UsageError(msg, ctx)
    given = {name: value for name, value in said.items() if value not in (None, ())}
    if cap not in (None, NONE):
        given["cap"] = cap
    elif cap == NONE:
        given["cap"] = None
    if expires_in is not None:
        given["expires_in"] = None if expires_in == NONE else expires_in
    if policy is not None:
        given["policy"] = policy
    return given
