"""Do many callers of one run stop together exactly at its cap?"""

import asyncio
import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

import keybrake
from keybrake.testing import Journal
from tests.races import _many

CAP = 200


def _assert_exactly_the_cap(journal: Path, ledger: str, run: keybrake.Run) -> None:
    """The vendor's own journal and the ledger have to tell the same story."""
    moved = Journal.read(journal).moved()
    assert len(moved) == CAP
    assert (run.spent, run.reserved) == (Decimal(CAP), Decimal(0))
    with sqlite3.connect(ledger.removeprefix("sqlite:///")) as db:
        settled = dict(
            db.execute("SELECT object_id, cost FROM call WHERE state = 'settled'").fetchall()
        )
        columns = "spent, reserved, calls, refused"
        totals = db.execute(f"SELECT {columns} FROM scope WHERE uid = ?", (run.id,)).fetchone()
        refused = db.execute("SELECT count(*) FROM call WHERE state = 'refused'").fetchone()[0]
    db.close()
    assert {entry.object_id for entry in moved} == set(settled)
    assert totals == (sum(settled.values()), 0, CAP, refused)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Name the file the fake writes its journal to."""
    return tmp_path / "journal.jsonl"


def test_sixteen_processes_stop_exactly_at_the_cap(journal, ledger_url):
    """Sixteen processes that charge $1 until refused send exactly 200 under cap=200."""
    with _many.fake_process(journal) as url, keybrake.run("shared", cap=CAP) as run:
        args = (url, str(run.key), ledger_url, CAP)
        seen = sum(_many.in_processes(16, _many.agent_process, *args), Counter())

        assert seen == Counter(sent=CAP, refused=16)
        _assert_exactly_the_cap(journal, ledger_url, run)


def test_sixty_four_threads_stop_exactly_at_the_cap(journal, ledger_url, fresh_stripe):
    """Sixty-four threads that charge $1 until refused send exactly 200 under cap=200."""
    with _many.fake_process(journal) as url, keybrake.run("shared", cap=CAP) as run:
        fresh_stripe(url)

        assert _many.in_threads(64, CAP) == Counter(sent=CAP, refused=64)
        _assert_exactly_the_cap(journal, ledger_url, run)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_two_hundred_tasks_stop_exactly_at_the_cap(journal, ledger_url, fresh_stripe):
    """Two hundred tasks that charge $1 until refused send exactly 200 under cap=200."""
    with _many.fake_process(journal) as url, keybrake.run("shared", cap=CAP) as run:
        fresh_stripe(url)

        seen = asyncio.run(_many.in_tasks(200, CAP))

        assert seen == Counter(sent=CAP, refused=200)
        _assert_exactly_the_cap(journal, ledger_url, run)


def test_parents_and_children_share_the_parents_cap(journal, ledger_url, fresh_stripe):
    """Threads in child runs with roomier caps stop together at their parent's cap."""
    with _many.fake_process(journal) as url, keybrake.run("parent", cap=CAP) as run:
        fresh_stripe(url)

        @keybrake.run("child", cap=150)
        def child(most: int) -> Counter[str]:
            return _many.charge_until_refused(most)

        with _many.ThreadPoolExecutor(8) as pool:
            seen = sum(pool.map(child, [CAP] * 8), Counter())

        assert seen["sent"] == CAP
        assert run.spent == CAP
        assert len(Journal.read(journal).moved()) == CAP
