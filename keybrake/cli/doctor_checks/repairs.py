"""What ``keybrake doctor --repair`` does, and what it asks before."""

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
    Put right what is wrong around the ledger; yield what was done, which people read at once.

    Raises:
        click.UsageError: Something would be lost, and nobody is there to be asked.
    """
    path = ledger_files.path_of(ledger_url(ctx))
    try:
        # Put right one by one: what is done first may be all that is needed.
        for trouble in list(repair.troubles(path)):
            if not _is_agreed(ctx, trouble, yes=yes):
                continue
            done = repair.repair(path, trouble, patience_s=settings.current().lock_timeout)
            words = done or f"{trouble.words}: that is not so any more, and nothing was done"
            if not as_json:
                click.echo(f"repaired  {safe(words)}")
            yield words
    except LedgerError as error:
        # What cannot be repaired is a finding of the checks that follow.
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
