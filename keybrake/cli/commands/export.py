"""``keybrake export``: write the call log as CSV or JSON lines for other programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from keybrake.cli.ui.arguments import complete_run, read_ledger
from keybrake.cli.ui.ledger_pages import CALL_COLUMNS, Wanted
from keybrake.cli.ui.text import safe, to_json
from keybrake.cli.ui.whole_file import write_whole

# A spreadsheet runs a cell with such a first character as a formula; some also accept wide forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001

Pages = Iterable[list[dict[str, Any]]]


@click.command(
    epilog="Example: keybrake export --csv --output calls.csv",
    help="""
Export the call log as CSV (the default) or JSON lines.

A CSV cell that a spreadsheet would run as a formula gets a ' before it, and control
characters are written as escapes.
""",
)
@click.option("--csv", "kind", flag_value="csv", help="One line a call, for spreadsheets.")
@click.option("--jsonl", "kind", flag_value="jsonl", help="The same as `keybrake log --json`.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write there instead of to standard output; the file appears when it is complete.",
)
@click.option("--run", "said", metavar="RUN", shell_complete=complete_run, help="Only this run.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.pass_context
def export(
    ctx: click.Context, kind: str | None, output: Path | None, said: str | None, *, force: bool
) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        wanted = Wanted(None if said is None else book.find(said).uid)
        chunks = (_json_lines if kind == "jsonl" else _csv_lines)(book.calls(wanted))
        if output is None:
            # Write bytes: the output is UTF-8 for programs, whatever the terminal's encoding is.
            sys.stdout.flush()
            sys.stdout.buffer.writelines(chunk.encode() for chunk in chunks)
            sys.stdout.buffer.flush()
            return
        write_whole(output, chunks, force=force)
    click.echo(f"wrote {safe(output)}", err=True)


def _json_lines(pages: Pages) -> Iterator[str]:
    for page in pages:
        yield "".join(f"{to_json(row)}\n" for row in page)


def _csv_lines(pages: Pages) -> Iterator[str]:
    yield _csv([dict(zip(CALL_COLUMNS, CALL_COLUMNS, strict=True))])
    for page in pages:
        yield _csv(page)


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_cell(row[name]) for name in CALL_COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return the value of a cell: numbers unchanged, and text that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    shown = safe(value)
    return f"'{shown}" if value.startswith(_FORMULA) or shown.startswith(_FORMULA) else shown
