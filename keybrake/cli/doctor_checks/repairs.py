"""Carry out ``keybrake doctor --repair``; ask a person first if a repair loses something."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from keybrake.cli.ui.arguments import ledger_url
from keybrake.cli.ui.text import safe
from keybrake.config import settings
from keybrake.errors import LedgerError
from keybrake.ledger.audit import repair
from keybrake.ledger.audit.repair import Trouble
from keybrake.ledger.stores.sqlite import ledger_files


def carry_out(ctx: click.Context, *, yes: bool, as_json: bool) -> Iterator[str]:
    """
    Repair the problems around the ledger; print each repair at once, and yield its description.

    Raises:
        click.UsageError: Something would be lost, and there is no terminal on which to ask.
    """
    path = ledger_files.path_of(ledger_url(ctx))
    try:
        # One by one: the first repair may also fix the next problem, and repair() then does nothing.
        for trouble in list(repair.troubles(path)):
            if not _is_agreed(ctx, trouble, yes=yes):
                continue
            done = repair.repair(path, trouble, patience_s=settings.current().lock_timeout)
            words = done or f"{trouble.words}: this has changed meanwhile, and nothing was done"
            if not as_json:
                click.echo(f"repaired  {safe(words)}")
            yield words
    except LedgerError as error:
        # The checks that follow report this error as a finding.
        if not as_json:
            click.echo(safe(error))


def _is_agreed(ctx: click.Context, trouble: Trouble, *, yes: bool) -> bool:
    if not trouble.loses or yes:
        return True
    words = safe(f"{trouble.words}. {trouble.loses}.")
    if not sys.stdin.isatty():
        msg = f"{words} Nothing was done; --yes does it"
        raise click.UsageError(msg, ctx)
    click.echo(words, err=True)
    agreed = click.confirm("Do it?", err=True)
    if not agreed:
        click.echo("left as it is", err=True)
    return agreed
