"""Runs that are over, moved to another file: ``keybrake archive``."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from keybrake.cli.ui.arguments import read_ledger
from keybrake.cli.ui.text import count, safe, to_json
from keybrake.config import settings
from keybrake.ledger import archive as archive_module
from keybrake.ledger.archive import Moved
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.model import clock


def _moment(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Return a UTC date or moment in micros."""
    try:
        said = datetime.fromisoformat(value)
        said = said.replace(tzinfo=UTC) if said.tzinfo is None else said
        return int(said.timestamp()) * clock.SECOND + said.microsecond
    except (ValueError, OverflowError):
        msg = f"{value!r} is no date; write 2026-11-01 or 2026-11-01T12:00Z"
        raise click.BadParameter(msg) from None


@click.command(
    epilog="Example: keybrake archive --before 2026-11-01 --dry-run",
    help="""
Move the calls of runs that ended before DATE to another file.

The runs, their totals and the chain of events stay; agents go on meanwhile. Stopped half-way,
do it again. `keybrake --ledger sqlite:///FILE` reads the archive.
""",
)
@click.option("--before", callback=_moment, metavar="DATE", required=True, help="UTC, ISO 8601.")
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The archive; it may be there already. Default: beside the ledger, with the date.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object: archive, runs, calls, kept."
)
@click.pass_context
def archive(
    ctx: click.Context, before: int, to: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        path = book.path
    if to is None:
        to = path.with_name(f"{path.name}.archive-{clock.iso(before)!s:.10}.db")
    config = settings.current()
    store = Store(path, lock_timeout_s=config.lock_timeout, durability=config.durability)
    try:
        moved = archive_module.move(store, before, to.absolute(), dry_run=dry_run)
    finally:
        store.close()
    if as_json:
        click.echo(to_json(_as_json(moved, dry_run=dry_run)))
        return
    would = "would move" if dry_run else "moved"
    what = f"{count(moved.calls, 'call')} of {count(len(moved.runs), 'run')}"
    click.echo(
        f"{would} {what} to {safe(moved.path)}" if moved.runs else "there is nothing to move"
    )
    for why, number in Counter(kept.why for kept in moved.kept).most_common():
        click.echo(f"{count(number, 'run')} stayed: {why}")


def _as_json(moved: Moved, *, dry_run: bool) -> dict[str, object]:
    return {
        "archive": str(moved.path) if moved.runs else None,
        "dry_run": dry_run,
        "runs": moved.runs,
        "calls": moved.calls,
        "kept": [{"id": kept.uid, "why": kept.why} for kept in moved.kept],
    }
