"""Arguments that commands share: find and open the ledger, and complete run names in a shell."""

from __future__ import annotations

import re
import sys

import click

from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.text import safe
from keybrake.config import settings
from keybrake.config.config_file import NobodyInFront
from keybrake.errors import PolicyError
from keybrake.ledger.stores.sqlite import ledger_files

# A shell treats a completion as typed text. So offer only labels without characters that it expands.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def ledger_url(ctx: click.Context) -> str:
    """
    Return the URL of the ledger: ``--ledger`` if given, else the configured one.

    Raises:
        click.UsageError: ``--ledger`` is not the URL of a ledger.
        PolicyError: The configuration is not valid.
    """
    given = ctx.find_root().params.get("ledger")
    try:
        configured = settings.current().ledger
    except NobodyInFront:
        # The keybrake exec process that holds our configuration is gone. With --ledger, a command
        # that reads the ledger does not need it.
        if given is None:
            raise
    if given is None:
        return configured
    try:
        ledger_files.path_of(given)
    except PolicyError as error:
        raise click.UsageError(str(error), ctx) from error
    return str(given)


def read_ledger(ctx: click.Context) -> Book:
    """
    Open the ledger for reading, and tell a person which file it is.

    A person may be in another folder than they think. The line goes to standard error, and only if
    that is a terminal, so programs do not get it. A ledger that is older than its seal is read too;
    then a warning is printed, and the command exits with 3.

    Raises:
        LedgerError: There is no ledger yet, or the file is not a ledger.
    """
    book = Book(ledger_url(ctx))
    if sys.stderr.isatty():
        click.echo(f"ledger: {safe(str(book.path))}", err=True)
    if (words := book.is_not_the_newest()) is not None:
        click.echo(f"keybrake: {safe(f'{book.path}: {words}')}", err=True)
        ctx.meta[FOUND_OLDER] = True
    return book


FOUND_OLDER = "keybrake.found_older"
"""A key of ``ctx.meta``. If set, the command exits with 3, because newer events may be missing."""


def complete_run(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return shell completions: ids and labels of open and paused runs that begin with *incomplete*."""
    try:
        with Book(ledger_url(ctx)) as book:
            alive = [run for run in book.runs() if run.state() in ("open", "paused")]
        labels = dict.fromkeys(run.label for run in alive if _PLAIN.fullmatch(run.label))
        words = [*(run.uid for run in alive), *labels]
        return [word for word in words if word.startswith(incomplete)]
    except Exception:  # noqa: BLE001 -- a shell cannot show an error during completion
        return []
