"""A run for another process, as a token: ``keybrake key issue``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from keybrake import _arguments, _clock
from keybrake._key import issue_vault_key
from keybrake._terms import Policy, load_terms
from keybrake._token import VaultKey
from keybrake.cli._read import Book
from keybrake.cli._said import ledger_url
from keybrake.cli._text import dollars, moment, safe, to_json
from keybrake.errors import PolicyError

_NONE = "none"
_LIMIT = "PATTERN:cap=50,max_calls=5,per=1h"

Limits = dict[str, dict[str, Any]]


@click.group(no_args_is_help=False, epilog="Example: keybrake key issue invoice-42 --cap 50")
def key() -> None:
    """Make vault keys, each of which stands for a run in whatever process has it."""


def _limits(ctx: click.Context, param: click.Parameter, said: Sequence[str]) -> Limits | None:
    """Return the limits by pattern; the pattern itself may have colons."""
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


@key.command(epilog="Example: export KEYBRAKE_VAULT_KEY=$(keybrake key issue invoice-42 --cap 50)")
@click.argument("session_id")
@click.option("--cap", metavar="USD|none", help='Most money; "none" is no cap, in writing.')
@click.option("--daily-cap", "daily_usd_cap", metavar="USD", help="Most money a day in UTC.")
@click.option("--max-calls", type=click.IntRange(min=0), metavar="N", help="Most vendor calls.")
@click.option("--max-amount", metavar="USD", help="Most that one call may ask for.")
@click.option("--allow", multiple=True, metavar="PATTERN", help="Only these; may be repeated.")
@click.option(
    "--limit", "limits", multiple=True, callback=_limits, metavar=_LIMIT, help="May be repeated."
)
@click.option("--expires-in", metavar="2h|none", help="Default: that of --policy, else 1h.")
@click.option("--label", metavar="TEXT", help="What the call log calls it, if not SESSION_ID.")
@click.option(
    "--policy", metavar="NAME", help="One in keybrake.toml; what is said beside it takes its place."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, amounts in micro-USD.")
@click.pass_context
def issue(ctx: click.Context, /, session_id: str, *, as_json: bool, **said: Any) -> None:
    """
    Open a run, and print the vault key that stands for it.

    Whoever has the key calls under this run, in any process on the same ledger. It is shown this
    once. Under KEYBRAKE_VAULT_KEY it is that run's child, and can only narrow. If something
    cannot be meant, nothing is written.
    """
    # What is wrong in keybrake.toml is no wrong usage of this command.
    _arguments.check_policies()
    url = ledger_url(ctx)
    try:
        made = issue_vault_key(session_id, ledger=url, **_meant(ctx, **said))
    except PolicyError as error:
        raise click.UsageError(str(error), ctx) from error
    if as_json:
        click.echo(to_json(_row(made, url)))
        return
    click.echo(str(made))
    for line in _words(ctx, _row(made, url)):
        click.echo(safe(line), err=True)


def _meant(
    ctx: click.Context,
    *,
    cap: str | None,
    policy: str | None,
    expires_in: str | None,
    **said: Any,
) -> dict[str, Any]:
    """Return what is said as ``issue_vault_key`` takes it."""
    if cap is None and policy is None and said["daily_usd_cap"] is None:
        msg = (
            f"Say --cap USD, --daily-cap USD or --policy NAME; --cap {_NONE} is no cap, in writing."
        )
        raise click.UsageError(msg, ctx)
    given = {name: value for name, value in said.items() if value not in (None, ())}
    if cap not in (None, _NONE):
        given["cap"] = cap
    if expires_in is not None:
        given["expires_in"] = None if expires_in == _NONE else expires_in
    if policy is not None:
        given["policy"] = _uncapped(policy) if cap == _NONE else policy
    return given


def _uncapped(name: str) -> Policy:
    # There, cap=None beside a policy leaves the policy's cap: a caller has no word for "none".
    return _arguments.policy_from(name, {"cap": None})


def _row(made: VaultKey, url: str) -> dict[str, Any]:
    """Return a key and its run as ``--json`` shows them: as they are in the ledger."""
    with Book(url) as book:
        run = book.run(made.run_id)
        statement = "SELECT terms FROM scope WHERE id = ?"
        (text,) = book.connection.execute(statement, (run.pk,)).fetchone()
    daily = [rule.cap for rule in load_terms(text).rules if rule.pattern == "*"]
    return {
        "key": str(made),
        "run_id": run.uid,
        "label": run.label,
        "parent_id": run.parent_uid,
        "cap_micros": run.cap,
        "daily_usd_cap_micros": daily[0] if daily else None,
        "expires_at": _clock.iso(run.expires_at),
        "ledger": url,
    }


def _words(ctx: click.Context, row: dict[str, Any]) -> list[str]:
    cap = dollars(row["cap_micros"], none=_NONE)
    daily, parent = row["daily_usd_cap_micros"], row["parent_id"]
    facts = [
        f"cap {cap}",
        *([f"{dollars(daily)} a day"] if daily is not None else []),
        f"expires {moment(row['expires_at'], brief=False) or 'never'}",
        *([f"child of {parent}, whose policy binds as well"] if parent else []),
    ]
    named = ctx.find_root().get_parameter_source("ledger") is ParameterSource.COMMANDLINE
    where = f"--ledger {shlex.quote(row['ledger'])} " if named else ""
    return [
        f"{row['run_id']} ({row['label']}): {', '.join(facts)}; its key is shown this once",
        f"end it with: keybrake {where}revoke {row['run_id']}",
    ]
