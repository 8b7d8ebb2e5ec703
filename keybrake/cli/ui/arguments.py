"""What the user said: which ledger, and which run, while the shell still completes it."""

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

# A shell takes what is completed as if it was typed: no label may be more than a word to it.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def ledger_url(ctx: click.Context) -> str:
    """
    Return the URL of the ledger this command is about.

    Raises:
        click.UsageError: The one that was given cannot be meant.
        PolicyError: The one in the configuration cannot be meant.
    """
    given = ctx.find_root().params.get("ledger")
    try:
        configured = settings.current().ledger
    except NobodyInFront:
        # Nobody is left to be asked; who reads the ledger need not know.
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
    Open the ledger this command is about, and say which it is to a person who looks.

    The line goes to standard error, and only if that is a terminal: a program that reads the
    output has no use for it, and a person may stand in another folder than they think. A ledger that
    is older than its seal is read all the same; a line says so, and the command exits with 3.

    Raises:
        LedgerError: There is no ledger yet, or the file is none.
    """
    book = Book(ledger_url(ctx))
    if sys.stderr.isatty():
        click.echo(f"ledger: {safe(str(book.path))}", err=True)
    if (words := book.is_not_the_newest()) is not None:
        click.echo(f"keybrake: {safe(f'{book.path}: {words}')}", err=True)
        ctx.meta[FOUND_OLDER] = True
    return book


FOUND_OLDER = "keybrake.found_older"
"""The key of ``ctx.meta`` that has the command end with 3: what it printed is not all there was."""


def complete_run(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids and labels of the runs that could still call and begin so, for a shell."""
    try:
        with Book(ledger_url(ctx)) as book:
            alive = [run for run in book.runs() if run.state() in ("open", "paused")]
        labels = dict.fromkeys(run.label for run in alive if _PLAIN.fullmatch(run.label))
        words = [*(run.uid for run in alive), *labels]
        return [word for word in words if word.startswith(incomplete)]
    except Exception:  # noqa: BLE001 -- a shell that completes has nowhere to show an error
        return []
