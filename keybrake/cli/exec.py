"""A program as it is, under a vault key and without the vendors' secrets: ``keybrake exec``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from keybrake import _arguments, credentials
from keybrake._key import issue_vault_key
from keybrake.cli import _child, _spawn
from keybrake.cli._policy_options import meant, policy_options
from keybrake.cli._read import Book
from keybrake.cli._said import ledger_url
from keybrake.cli._text import dollars, safe, to_json
from keybrake.cli.runs import run_row
from keybrake.errors import PolicyError
from keybrake.ledger import RunRecord, open_ledger

_LIFETIME = "24h"
_NO_SUCH_COMMAND, _CANNOT_START = 127, 126  # as shells have it


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: keybrake exec --cap 5 -- python agent.py",
)
@policy_options(lifetime=_LIFETIME, name="the program's name")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND…")
@click.pass_context
def exec_(ctx: click.Context, /, command: tuple[str, ...], *, as_json: bool, **said: Any) -> None:
    """
    Run a program, unchanged, under a vault key.

    Where its environment had the vendors' secrets it has the key, and every Python that it starts is
    guarded before its first line. Ctrl-C and its exit status go through; when it has ended its run is
    closed, and what it spent is said on standard error.
    """
    _arguments.check_policies()
    url = open_ledger(ledger_url(ctx)).url
    known = credentials.current()
    had = {vendor: known.get(vendor) for vendor in _child.vendors_with_credentials(os.environ)}
    given = {"expires_in": _LIFETIME} if said["policy"] is None else {}
    if shutil.which(command[0]) is None:
        click.echo(f"keybrake: {safe(command[0])}: there is no such command", err=True)
        ctx.exit(_NO_SUCH_COMMAND)
    label = said.pop("label") or _name_of(command)
    try:
        key = issue_vault_key(label, ledger=url, **{**given, **meant(ctx, **said)})
    except PolicyError as error:
        raise click.UsageError(str(error), ctx) from error
    # Nothing ends this process before the run is closed.
    _spawn.hold_signals()
    ledger = open_ledger(url)
    try:
        with credentials.Broker(known, key, lambda: _over(url, key.run_id)) as broker:
            environ = _child.environment(os.environ, key, had, url, broker.address)
            status = _spawn.run(command, environ)
    except OSError as error:
        status = _CANNOT_START
        click.echo(f"keybrake: {safe(command[0])}: {error.strerror}", err=True)
    finally:
        ledger.close_run(ledger.runs(key.run_id)[0].pk)
    (run,) = ledger.runs(key.run_id)
    click.echo(
        to_json({**run_row(run), "exit_status": status}) if as_json else _words(run, status, url),
        err=True,
    )
    sys.stdout.flush()
    ctx.exit(status)


def _name_of(command: Sequence[str]) -> str:
    """Return what a command is called: for an interpreter, the script."""
    words = [os.path.basename(word) for word in command]  # noqa: PTH119 -- a name, no path
    is_script = words[0].startswith("python") and len(words) > 1 and not words[1].startswith("-")
    return words[1 if is_script else 0]


def _over(url: str, run_id: str) -> str | None:
    """Return why a run is given no credential any more; None: it may call."""
    (run,) = open_ledger(url).runs(run_id)
    return None if run.state() in ("open", "paused") else f"the run {run_id} is {run.state()}"


def _words(run: RunRecord, status: int, url: str) -> str:
    of = f" of {dollars(run.cap)}" if run.cap is not None else ""
    calls = f"{run.calls} call{'' if run.calls == 1 else 's'}"
    words = [f"{dollars(run.spent)}{of} spent in {calls}"]
    if run.reserved:
        words.append(f"{dollars(run.reserved)} reserved, see keybrake unresolved")
    if run.refused:
        words.append(f"{run.refused} refused, the last: {_last_refusal(url, run.uid)}")
    state = "" if run.state() == "closed" else f" ({run.state()})"
    return safe(f"keybrake: {run.label} {run.uid}{state}: {', '.join(words)}; exit status {status}")


def _last_refusal(url: str, run_id: str) -> str:
    with Book(url) as book:
        statement = (
            "SELECT endpoint, reason FROM call_log WHERE run_id = ? AND state = 'refused' "
            "ORDER BY seq DESC LIMIT 1"
        )
        row = book.connection.execute(statement, (run_id,)).fetchone()
    return "one of a child run" if row is None else f"{row[0]} ({row[1]})"
