"""``keybrake show``: show everything about one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from keybrake.cli.commands.runs import STATE_STYLES, run_row
from keybrake.cli.ui.arguments import complete_run, read_ledger
from keybrake.cli.ui.call_rows import call_line, calls_table
from keybrake.cli.ui.ledger_pages import Book, Wanted
from keybrake.cli.ui.table import Cell, Column, Table, is_terminal
from keybrake.cli.ui.text import dollars, moment, to_json
from keybrake.ledger import RunRecord
from keybrake.ledger import statements as sql
from keybrake.model import clock
from keybrake.policy.policy import Terms, load_terms

_LAST_CALLS = 10
_BAR = 30

_TOOLS = """
SELECT tool, spent_micros, reserved_micros, calls, refused FROM spend_by_tool WHERE run_id = ?
"""

Whole = Mapping[str, Any]


@click.command(
    epilog="Example: keybrake show run_1a2b",
    help="""
Show one run in full.

That is its policy with the amounts used, its parents, its tools and its last calls.

RUN is an id, the beginning of one, or a label that only one run has.
""",
)
@click.argument("said", metavar="RUN", shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, amounts in micro-USD.")
@click.pass_context
def show(ctx: click.Context, said: str, *, as_json: bool) -> None:
    """See ``--help``."""
    with read_ledger(ctx) as book:
        whole = _whole(book, book.find(said))
    if as_json:
        click.echo(to_json(whole))
    else:
        _print(whole)


def _whole(book: Book, run: RunRecord) -> dict[str, Any]:
    """Return everything about *run*, as ``--json`` shows it."""
    mode, text = book.connection.execute(
        "SELECT mode, terms FROM scope WHERE id = ?", (run.pk,)
    ).fetchone()
    terms = load_terms(text)
    pages = book.calls(Wanted(run.uid), last=_LAST_CALLS)
    return {
        **run_row(run),
        "mode": mode,
        "closed_at": clock.iso(run.closed_at),
        "revoked_at": clock.iso(run.revoked_at),
        "paused_at": clock.iso(run.paused_at),
        "max_calls": terms.max_calls,
        "max_amount_micros": terms.max_amount,
        "allow": None if terms.allow is None else list(terms.allow),
        "limits": list(_limits(book, run, terms)),
        "parents": list(_parents(book, run)),
        "tools": book.rows(_TOOLS, (run.uid,)),
        "last_calls": [row for page in pages for row in page],
    }


def _limits(book: Book, run: RunRecord, terms: Terms) -> Iterator[dict[str, Any]]:
    """Yield each limit with the counters of its present window."""
    for number, rule in enumerate(terms.rules):
        since = rule.since(max(clock.now(), run.opened_at))
        used = book.connection.execute(sql.SUM_BUCKETS, (run.pk, number, since)).fetchone()
        yield {
            "pattern": rule.pattern,
            "per": rule.per,
            "cap_micros": rule.cap,
            "max_calls": rule.max_calls,
            "spent_micros": used[0],
            "reserved_micros": used[1],
            "calls": used[2],
        }


def _parents(book: Book, run: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield the parents of a run, which also bind it, the nearest first."""
    while run.parent_uid is not None:
        run = book.run(run.parent_uid)
        yield {
            "id": run.uid,
            "label": run.label,
            "state": run.state(),
            "remaining_micros": run.remaining,
        }


def _print(whole: Whole) -> None:
    facts = Table(Column("run", style="dim"), Column(whole["id"], gives_way=1))
    facts.show(_facts(whole))
    for title, rows in (("limits", _limit_lines(whole)), ("tools", _tool_lines(whole))):
        if rows:
            click.echo()
            _sub_table(title).show(rows)
    if whole["last_calls"]:
        click.echo()
        calls_table().show(map(call_line, whole["last_calls"]))


def _facts(whole: Whole) -> Iterator[list[Cell | str]]:
    yield ["label", Cell(whole["label"], "bold")]
    yield ["state", Cell(_state(whole), STATE_STYLES.get(whole["state"], "dim"))]
    yield ["opened", _when(whole["opened_at"])]
    yield ["expires", _when(whole["expires_at"]) or "never"]
    for parent in whole["parents"]:
        left = dollars(parent["remaining_micros"], none="any")
        yield ["under", f"{parent['label']} ({parent['id']}, {parent['state']}, {left} left)"]
    yield ["cap", dollars(whole["cap_micros"], none="none")]
    yield ["spent", f"{dollars(whole['spent_micros'])}{_bar(whole)}"]
    yield ["reserved", dollars(whole["reserved_micros"])]
    yield ["remaining", dollars(whole["remaining_micros"], none="any")]
    most = "" if whole["max_calls"] is None else f" of at most {whole['max_calls']:,}"
    yield ["calls", f"{whole['calls']:,}{most}, {whole['refused']:,} refused"]
    if whole["max_amount_micros"] is not None:
        yield ["per call", f"at most {dollars(whole['max_amount_micros'])}"]
    allow = whole["allow"]
    yield ["allow", "every classified endpoint" if allow is None else ", ".join(allow) or "nothing"]


def _state(whole: Whole) -> str:
    since = whole.get(f"{whole['state']}_at")
    reports = ", report mode: nothing is refused" if whole["mode"] == "report" else ""
    return f"{whole['state']}{f' since {_when(since)}' if since else ''}{reports}"


def _when(iso: str | None) -> str:
    return moment(iso, brief=False).replace("T", " ").replace("Z", " UTC")


def _bar(whole: Whole) -> str:
    """Return a bar that shows the used part of the cap; empty if the output is not a terminal."""
    cap = whole["cap_micros"]
    if not cap or not is_terminal():
        return ""
    used = min(cap, whole["spent_micros"] + whole["reserved_micros"])
    full = -(-used * _BAR // cap)
    return f"  {'█' * full}{'░' * (_BAR - full)} {used * 100 // cap} %"


def _sub_table(title: str) -> Table:
    if title == "limits":
        return Table(
            Column("limit on", gives_way=1, style="bold"),
            Column("per"),
            Column("cap", right=True),
            Column("spent", right=True),
            Column("reserved", right=True),
            Column("calls", right=True),
        )
    return Table(
        Column("tool", gives_way=1, style="bold"),
        Column("spent", right=True),
        Column("reserved", right=True),
        Column("calls", right=True),
        Column("refused", right=True),
    )


def _limit_lines(whole: Whole) -> list[list[Cell | str]]:
    return [
        [
            "every endpoint" if limit["pattern"] == "*" else limit["pattern"],
            limit["per"],
            dollars(limit["cap_micros"], none="none"),
            dollars(limit["spent_micros"]),
            dollars(limit["reserved_micros"]),
            f"{limit['calls']:,}"
            + ("" if limit["max_calls"] is None else f" of {limit['max_calls']:,}"),
        ]
        for limit in whole["limits"]
    ]


def _tool_lines(whole: Whole) -> list[list[Cell | str]]:
    return [
        [
            tool["tool"],
            dollars(tool["spent_micros"]),
            dollars(tool["reserved_micros"]),
            f"{tool['calls']:,}",
            f"{tool['refused']:,}",
        ]
        for tool in whole["tools"]
    ]
