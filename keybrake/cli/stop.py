"""The stop button: ``keybrake revoke``, ``pause`` and ``resume``."""

from __future__ import annotations

from collections.abc import Sequence

import click

import keybrake
from keybrake.cli._read import Book
from keybrake.cli._said import complete_run, ledger_url
from keybrake.cli._text import json_array, safe
from keybrake.cli.runs import run_row
from keybrake.errors import LedgerError
from keybrake.ledger import Ledger, RunRecord

_CAN_GO_ON = ("open", "paused")

_runs = click.argument(
    "said", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON array of the runs.")


@click.command(epilog="Example: keybrake revoke run_1a2b3c4d run_5e6f7a8b")
@_runs
@_json
@click.pass_context
def revoke(ctx: click.Context, said: tuple[str, ...], *, as_json: bool) -> None:
    """
    End runs for good.

    Their next call is refused, in whatever process it is. RUN is an id, the beginning of one, a label that only one run has, or a vault key. If one of
    them is wrong, nothing is written. Revoking twice is revoking once.
    """
    _steer(ctx, said, "revoke", as_json=as_json)


@click.command(epilog="Example: keybrake pause invoice-agent")
@_runs
@_json
@click.pass_context
def pause(ctx: click.Context, said: tuple[str, ...], *, as_json: bool) -> None:
    """
    Stop runs for a while.

    Their calls are refused until they are resumed. If one RUN is wrong, nothing is written.
    """
    _steer(ctx, said, "pause", as_json=as_json)


@click.command(epilog="Example: keybrake resume invoice-agent")
@_runs
@_json
@click.pass_context
def resume(ctx: click.Context, said: tuple[str, ...], *, as_json: bool) -> None:
    """
    Let paused runs go on.

    A revoked, closed or expired run cannot. If one RUN is wrong, nothing is written.
    """
    _steer(ctx, said, "resume", as_json=as_json)


def _steer(ctx: click.Context, said: Sequence[str], verb: str, *, as_json: bool) -> None:
    url = ledger_url(ctx)
    with Book(url) as book:
        # Everything is looked up before anything is written; a run named twice is meant once.
        before = list({run.pk: run for run in map(book.find, said)}.values())
    if verb != "revoke":
        _refuse_ended(before, verb)
    ledger = keybrake.open_ledger(url)
    after = []
    for run in before:
        _write(ledger, verb, run.uid)
        after.append(ledger.run(run.pk))
        if not as_json:
            click.echo(_words(run, after[-1]))
    if as_json:
        click.echo(json_array(run_row(run) for run in after))


def _refuse_ended(runs: Sequence[RunRecord], verb: str) -> None:
    for run in runs:
        if run.state() not in _CAN_GO_ON:
            msg = f"run {run.uid} is {run.state()} and cannot be {verb}d; nothing was changed"
            raise LedgerError(msg)


def _write(ledger: Ledger, verb: str, uid: str) -> None:
    {"revoke": ledger.revoke, "pause": ledger.pause, "resume": ledger.resume}[verb](uid)


def _words(before: RunRecord, after: RunRecord) -> str:
    """Say what a run is now; ``open`` after ``resume``."""
    again = " already" if before.state() == after.state() else ""
    return f"{after.uid} is {after.state()}{again} ({safe(after.label)})"
