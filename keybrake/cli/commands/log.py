"""``keybrake log``: show the call log, and follow it with ``--follow``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from keybrake.cli.ui.arguments import complete_run, read_ledger
from keybrake.cli.ui.call_rows import call_line, calls_table
from keybrake.cli.ui.ledger_pages import PAGE, Book, Wanted
from keybrake.cli.ui.text import to_json
from keybrake.errors import LedgerError
from keybrake.model.call import State

_PATTERN = re.compile(r"([a-z0-9_]+|\*)(\.([a-z0-9_]+|\*))+|[A-Z]+ [a-z0-9_]+:/\S*")
_POLL_S = 0.1
_NOT_ENDED = (State.RESERVED, State.UNKNOWN)

Row = Mapping[str, Any]
Print = Callable[[Iterable[Row]], None]


def _pattern(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or _PATTERN.fullmatch(value):
        return value
    msg = f"{value!r} is no endpoint pattern; write stripe.refunds.create, stripe.*.list or 'GET stripe:/v1/charges/*'"
    raise click.BadParameter(msg)


@click.command(
    epilog="Example: keybrake log --run invoice-agent --follow",
    help="""
Show the call log: every call, the newest last.

With --follow a call is shown when it begins and once more when it has ended; Ctrl-C stops
following, with status 130. A cost in brackets is a reservation: the call has not ended, or its
outcome is unknown.
""",
)
@click.option(
    "--run", "said", metavar="RUN", shell_complete=complete_run, help="Only this run: id or label."
)
@click.option(
    "--state", type=click.Choice([state.value for state in State]), help="Only calls in this state."
)
@click.option(
    "--endpoint",
    metavar="PATTERN",
    callback=_pattern,
    help="Only these endpoints; * is one segment: 'stripe.refunds.*'.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the newest N.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new calls until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, money in micro-USD.")
@click.pass_context
def log(
    ctx: click.Context,
    said: str | None,
    state: str | None,
    endpoint: str | None,
    limit: int | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        run_id = None if said is None else book.find(said).uid
        wanted = Wanted(run_id, state, endpoint)
        show = _as_json if as_json else _as_table()
        if follow:
            _follow(book, wanted, limit, show)
            return
        for page in book.calls(wanted, last=limit):
            show(page)


def _as_json(rows: Iterable[Row]) -> None:
    sys.stdout.writelines(f"{to_json(row)}\n" for row in rows)


def _as_table() -> Print:
    table = calls_table()
    return lambda rows: table.show(map(call_line, rows))


def _follow(book: Book, wanted: Wanted, limit: int | None, show: Print) -> None:
    # A call may enter the wanted state later, so watch calls in every state.
    watched = Wanted(wanted.run_id, None, wanted.endpoint)
    file = _identity(book)
    # In this order, a call that ends meanwhile may be shown twice, but is never missed.
    newest = book.newest()
    open_calls = book.not_ended(watched, up_to=newest)
    for page in book.calls(wanted, last=limit):
        _out(show, [row for row in page if row["seq"] <= newest])
    version = None
    while True:
        seen = book.connection.execute("PRAGMA data_version").fetchone()[0]
        if seen != version:
            version = seen
            _out(show, _ended(book, wanted, open_calls))
            for page in book.calls(watched, after=newest):
                newest = page[-1]["seq"]
                open_calls.update({r["seq"]: r["state"] for r in page if r["state"] in _NOT_ENDED})
                _out(show, [row for row in page if wanted.state in (None, row["state"])])
        if _reader_is_gone():
            raise BrokenPipeError
        if _identity(book) != file:
            msg = f"{book.path} was replaced by another file; start again to follow that one"
            raise LedgerError(msg)
        time.sleep(_POLL_S)


def _out(show: Print, rows: Sequence[Row]) -> None:
    if rows:
        show(rows)
    sys.stdout.flush()


def _ended(book: Book, wanted: Wanted, open_calls: dict[int, str]) -> list[Row]:
    """Return the open calls with a new state, and remove those that have ended from *open_calls*."""
    numbers = sorted(open_calls)
    changed: list[Row] = []
    for start in range(0, len(numbers), PAGE):
        for row in book.calls_numbered(numbers[start : start + PAGE]):
            if row["state"] == open_calls[row["seq"]]:
                continue
            changed.append(row)
            open_calls[row["seq"]] = row["state"]
            if row["state"] not in _NOT_ENDED:
                del open_calls[row["seq"]]
    return [row for row in changed if wanted.state in (None, row["state"])]


def _identity(book: Book) -> tuple[int, int]:
    found = book.path.stat()
    return found.st_dev, found.st_ino


def _reader_is_gone() -> bool:
    """Return whether the reader of our pipe is gone; we may have no row to write to notice that."""
    import select

    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False
