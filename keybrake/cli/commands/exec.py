"""``keybrake exec``: run an unchanged program with a vault key in place of the vendors' secrets."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from keybrake import credentials
from keybrake.cli.commands.runs import run_row
from keybrake.cli.exec_child import environment, spawn
from keybrake.cli.exec_child.gate import Gate
from keybrake.cli.ui.arguments import ledger_url
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.policy_options import policy_arguments, policy_options
from keybrake.cli.ui.text import brief, dollars, safe, to_json
from keybrake.config import config_file
from keybrake.errors import PolicyError
from keybrake.ledger import RunRecord, open_ledger
from keybrake.runs import arguments
from keybrake.runs.vault_key import issue_vault_key

_LIFETIME = "24h"
_NO_SUCH_COMMAND, _CANNOT_START = 127, 126  # as shells have it


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: keybrake exec --cap 5 -- python agent.py",
    help="""
Run a program, unchanged, under a vault key.

In its environment the vault key replaces the vendors' secrets, and every Python that it starts is
guarded before its first line. Signals such as Ctrl-C reach the program, and its exit status is
returned. When it has ended, its run is closed and its spending is printed on standard error.
""",
)
@policy_options(lifetime=_LIFETIME, name="the program's name")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND…")
@click.pass_context
def exec_(ctx: click.Context, /, command: tuple[str, ...], *, as_json: bool, **said: Any) -> None:
    """See ``--help``."""
    spawn.hide()
    _look_up(ctx, command[0])
    arguments.check_policies()
    written = config_file.written()
    url = open_ledger(ledger_url(ctx)).url
    known = credentials.current()
    had = {vendor: known.get(vendor) for vendor in environment.vendors_with_credentials(os.environ)}
    given = {"expires_in": _LIFETIME} if said["policy"] is None else {}
    label = said.pop("label") or _name_of(command)
    gate = Gate(url)
    with _broker(known, written, gate) as broker:
        try:
            key = issue_vault_key(label, ledger=url, **{**given, **policy_arguments(ctx, **said)})
        except PolicyError as error:
            raise click.UsageError(str(error), ctx) from error
        gate.run_id = key.run_id
        # From here on no signal may end this process before the run is closed.
        spawn.hold_signals()
        status = _run(
            command, broker, lambda at: environment.environment(os.environ, key, had, url, at)
        )
    _last_words(key.run_id, status, url, as_json=as_json)
    ctx.exit(status)


def _look_up(ctx: click.Context, word: str) -> None:
    """Exit with the status that a shell uses, if the command does not exist or cannot be run."""
    if shutil.which(word) is not None:
        return
    is_there = os.path.lexists(word) if os.path.dirname(word) else shutil.which(word, os.F_OK)  # noqa: PTH120
    what = "is not executable" if is_there else "there is no such command"
    _say(f"keybrake: {brief(word)}: {what}")
    ctx.exit(_CANNOT_START if is_there else _NO_SUCH_COMMAND)


def _name_of(command: Sequence[str]) -> str:
    """Return a label for a command: its file name, or for Python the script or module."""
    name = os.path.basename(command[0])  # noqa: PTH119 -- a name, no path
    if name.startswith("python"):
        name = _run_by_python(command[1:]) or name
    return os.fsencode(name).decode("utf-8", "replace")[: arguments.LONGEST_LABEL]


def _run_by_python(words: Sequence[str]) -> str:
    """Return the script or module in the arguments of Python; empty if there is neither."""
    left = iter(words)
    for word in left:
        if word in ("-W", "-X"):  # the next word is the value of this option
            next(left, None)
        elif word == "-m":
            return next(left, "")
        elif word == "-c" or not word.startswith("-"):
            return "" if word == "-c" else os.path.basename(word)  # noqa: PTH119 -- a name, no path
    return ""


def _broker(
    known: credentials.Known, written: config_file.Written, gate: Gate
) -> credentials.Broker:
    here = written.file and written.file.absolute()
    try:
        return credentials.Broker(known, written._replace(file=here), gate)
    except OSError as error:
        msg = f"no socket for the credentials can be made: {error.strerror or error}"
        raise click.ClickException(msg) from error


def _run(
    command: Sequence[str], broker: credentials.Broker, environ: Callable[[str], dict[str, str]]
) -> int:
    try:
        broker.serve()
        return spawn.run(command, environ(broker.address))
    except Exception as error:  # noqa: BLE001 -- the run must be closed after any error
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        _say(f"keybrake: {brief(command[0])}: {why}")
        return _CANNOT_START


def _last_words(run_id: str, status: int, url: str, *, as_json: bool) -> None:
    """Close the run and print a summary; an error here does not change the program's exit status."""
    try:
        ledger = open_ledger(url)
        ledger.close_run(ledger.runs(run_id)[0].pk)
        (run,) = ledger.runs(run_id)
        row = {**run_row(run), "exit_status": status}
        words = to_json(row) if as_json else _words(run, status, url)
    except Exception as error:  # noqa: BLE001 -- a ledger that is gone fails in many ways
        why = brief(" ".join(str(error).split()) or type(error).__name__)
        words = f"keybrake: the run {run_id} could not be closed: {why}; exit status {status}"
    _say(words)


def _say(words: str) -> None:
    """Write a line to standard error; ignore that it may be closed."""
    try:
        click.echo(words, err=True)
    except (OSError, ValueError):
        # The line is still in the buffer, and Python's flush at exit would fail again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
