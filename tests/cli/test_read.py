"""Do the readers find what is there in as little time as a person notices, whatever the size?"""

import contextlib
import itertools

import pytest

from keybrake.cli.ui import ledger_pages
from keybrake.cli.ui.ledger_pages import Book, Wanted
from keybrake.ledger.stores.sqlite import ledger_files
from tests.ledger._written import left_open, written


@pytest.fixture
def path(tmp_path):
    """Write a ledger with calls of every state, and a gap in their numbers."""
    ledger = written(tmp_path / "ledger.db")
    left_open(ledger)
    ledger.close()
    with contextlib.closing(ledger_files.connect(ledger.path)) as db:
        db.execute("DROP TRIGGER call_stays")
        db.execute("DELETE FROM call WHERE seq BETWEEN 12 AND 19")
    return ledger.path


@pytest.fixture
def book(path):
    """Open it to read."""
    with Book(f"sqlite:///{path}") as book:
        yield book


WANTED = [
    Wanted(),
    Wanted("run_1"),
    Wanted(state="refused"),
    Wanted(state="reserved"),
    Wanted(endpoint="stripe.charges.*"),
    Wanted("run_1", state="settled"),
    Wanted("run_1", "unknown", "stripe.*.create"),
    Wanted("nobody"),
]


@pytest.mark.parametrize("span", [1, 3, 50_000])
@pytest.mark.parametrize("page", [2, 1000])
def test_pages_are_the_rows_that_are_wanted(book, monkeypatch, span, page):
    """However few rows a statement looks at, all that are wanted come, once, in their order."""
    monkeypatch.setattr(ledger_pages, "_SPAN", span)
    monkeypatch.setattr(ledger_pages, "PAGE", page)
    for wanted, last, after in itertools.product(WANTED, (None, 0, 1, 3, 1000), (0, 5)):
        every = book.rows(
            f"SELECT seq FROM call_log WHERE {wanted.where()} ORDER BY seq", wanted.parameters()
        )
        expected = [row["seq"] for row in every]
        expected = (
            expected if last is None else expected[len(expected) - min(last, len(expected)) :]
        )
        pages = list(book.calls(wanted, after=after, last=last))

        assert [row["seq"] for rows in pages for row in rows] == [n for n in expected if n > after]
        assert all(0 < len(rows) <= page for rows in pages)


def test_the_calls_that_may_still_change_are_found(book, monkeypatch):
    """Unknown calls, and reserved ones that have something set aside, however old they are."""
    monkeypatch.setattr(ledger_pages, "_SPAN", 1)
    states = sorted(book.not_ended(Wanted(), up_to=book.newest()).values())

    assert states == ["reserved", "unknown"]
    assert book.not_ended(Wanted("run_2"), up_to=book.newest()) == {}


STATEMENTS = {
    "spend --by run": "SELECT * FROM spend_by_run",
    "spend --by tool": "SELECT * FROM spend_by_tool",
    "spend --by endpoint": "SELECT * FROM spend_by_endpoint",
    "spend --by day": "SELECT * FROM spend_by_day",
    "show": "SELECT * FROM spend_by_tool WHERE run_id = 'run_1'",
    "log --run": "SELECT * FROM call_log WHERE run_id = 'run_1' AND seq > 5 ORDER BY seq LIMIT 9",
    "log --follow": (
        f"SELECT seq FROM call_log WHERE seq IN ({ledger_pages._MAY_CHANGE}) AND seq <= :up_to"
    ),
    "log": "SELECT * FROM call_log WHERE seq > 5 AND seq <= 9 ORDER BY seq LIMIT 9",
}


@pytest.mark.parametrize("command", STATEMENTS)
def test_no_reader_looks_at_every_call(book, command):
    """A ledger of a million calls answers by its indexes and totals."""
    plan = book.connection.execute(f"EXPLAIN QUERY PLAN {STATEMENTS[command]}", {"up_to": 9})
    steps = [step for *_, step in plan.fetchall()]

    assert steps
    # An index of a few calls alone may be read from end to end.
    few = {f"SCAN call USING INDEX call_{which}" for which in ("unknown", "weightless")}
    scans = [s for s in steps if s in ("SCAN call", "SCAN event") or s.startswith("SCAN call ")]
    assert set(scans) <= few
