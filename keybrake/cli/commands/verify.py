"""``keybrake verify``: check the ledger against its events."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from keybrake.cli.ui.arguments import read_ledger
from keybrake.cli.ui.text import count, safe, to_json
from keybrake.ledger.audit import verify as ledger_verify
from keybrake.ledger.audit.event_reader import Finding
from keybrake.ledger.audit.verify import Head, Verdict

FOUND_SOMETHING = 3
_SHOWN = 20
_ANCHOR = re.compile(r"\s*([0-9]{1,18})\s+([0-9a-f]{64})\s*")


def _anchors(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Head, ...]:
    heads = []
    for value in values:
        match = _ANCHOR.fullmatch(value)
        if match is None:
            msg = (
                f"{value!r} is no head; write what keybrake verify --print-head printed: 'SEQ HASH'"
            )
            raise click.BadParameter(msg)
        heads.append(Head(int(match[1]), match[2]))
    return tuple(heads)


@click.command(
    epilog="Example: keybrake verify --head '4711 9f86d081…'",
    help="""
Verify the ledger, reading only, while agents run.

Every event is hashed again, and every state and total is computed again from the events.
Exits with 3 if something differs. Calls that are reserved or unknown are not an error.
""",
)
@click.option("--print-head", is_flag=True, help="Only print the newest event: SEQ HASH.")
@click.option(
    "--head",
    "anchors",
    metavar="'SEQ HASH'",
    multiple=True,
    callback=_anchors,
    help="An earlier output of --print-head, which must still be in the chain.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: ok, head, findings.")
@click.pass_context
def verify(
    ctx: click.Context, anchors: tuple[Head, ...], *, print_head: bool, as_json: bool
) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        if print_head:
            _print_head(ledger_verify.head(book.connection), as_json=as_json)
            return
        with _progress(book.path) as progress:
            verdict = ledger_verify.verify(
                book.connection, book.path, anchors=anchors, progress=progress
            )
    if as_json:
        click.echo(to_json(_as_json(verdict)))
    else:
        _print(verdict)
    if verdict.found:
        ctx.exit(FOUND_SOMETHING)


def _print_head(head: Head, *, as_json: bool) -> None:
    click.echo(to_json(head._asdict()) if as_json else f"{head.seq} {head.hash}")


@contextlib.contextmanager
def _progress(path: Path) -> Iterator[Callable[[int, int], None]]:
    """Draw a progress bar if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(safe(path.name)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _as_json(verdict: Verdict) -> dict[str, object]:
    return {
        "ok": not verdict.found,
        "ledger": str(verdict.path),
        "head": verdict.head._asdict(),
        "events": verdict.events,
        "calls": verdict.calls,
        "runs": verdict.runs,
        "reserved": verdict.reserved,
        "unknown": verdict.unknown,
        "found": verdict.found,
        "findings": [finding._asdict() for finding in verdict.findings],
    }


def _print(verdict: Verdict) -> None:
    for finding in verdict.findings[:_SHOWN]:
        click.echo(_line(finding))
    if verdict.found > _SHOWN:
        click.echo(f"and {verdict.found - _SHOWN:,} more")
    if verdict.found:
        click.echo(f"{safe(verdict.path)}: {count(verdict.found, 'thing')} wrong")
        return
    looked_at = ", ".join(
        (count(verdict.events, "event"), count(verdict.calls, "call"), count(verdict.runs, "run"))
    )
    click.echo(f"{safe(verdict.path)} is sound: {looked_at}{_left(verdict)}")


def _line(finding: Finding) -> str:
    words = f"{finding.what}: {finding.where}: expected {finding.expected}, found {finding.found}"
    return f"WRONG  {safe(words)}"


def _left(verdict: Verdict) -> str:
    """Return the numbers of calls that have not ended: worth knowing, but not an error."""
    left = [
        f"{number:,} {state}"
        for state, number in (("reserved", verdict.reserved), ("unknown", verdict.unknown))
        if number
    ]
    return f" ({', '.join(left)})" if left else ""
