"""Does the bench run, and is what it fills a ledger what calls would have left behind?"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.bench._fill import Filling, check
from tests.bench._ledger import CALL, Ours
from tests.bench._plot import drawn
from tests.bench._report import Aim, Chart, Series

ROOT = Path(__file__).parents[2]
BENCH = [sys.executable, "-m", "tests.bench"]


def test_the_bench_prints_and_writes_a_table(tmp_path):
    """The short form prints a table, and writes it where it is told to."""
    command = [*BENCH, "--short", "--only", "floors", "--write", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    rows = re.findall(r"^\| raw ledger, process \|( [\d,.]+ \|){4}$", done.stdout, re.MULTILINE)
    assert len(rows) == 1
    assert rows[0] in (tmp_path / "figures.md").read_text("utf-8")


def test_a_section_that_is_not_there_is_named(tmp_path):
    """A section of another name is refused with those there are."""
    command = [*BENCH, "--only", "floor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "no section floor; there are floors, calls" in done.stderr


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim("", 1.5, most=1.5), True),
        (Aim("", 1.51, most=1.5), False),
        (Aim("", 0.4, least=0.4), True),
        (Aim("", 0.39, least=0.4), False),
    ],
)
def test_an_aim_is_met_up_to_its_bound(aim, met):
    """A figure that is exactly what was wanted is good enough, and one beyond it is not."""
    assert aim.met is met


def test_a_chart_shows_every_value():
    """Each value of a chart is a dot in the picture, on a scale of powers of ten, too."""
    chart = Chart("a & b", ["1", "2"], [Series("x", [3.0, 4000.0])])
    log = Chart("log", ["1", "2"], [Series("y", [3.0, 4000.0])], log=True)

    picture = drawn([chart, log])

    assert picture.count('r="3"') == 4
    assert "a &amp; b" in picture


def test_a_filled_ledger_is_one_that_calls_left_behind(tmp_path):
    """What is filled in is sound, and looks like what the ledger itself writes for such a call."""
    path = tmp_path / "filled.db"
    Filling(path).up_to(40)
    ours = Ours(path, durability="process")
    ours.call()
    ours.check()
    ours.close()

    check(path, 41)
    verify = [sys.executable, "-m", "keybrake", "--ledger", f"sqlite:///{path}", "verify"]
    subprocess.run(verify, check=True)
    with closing(sqlite3.connect(path)) as connection:
        shapes = connection.execute(_SHAPES, (CALL.endpoint,)).fetchall()
    assert len(shapes) == 1


# Which columns are NULL, of the calls at one endpoint and of their positions and events.
_SHAPES = """
SELECT DISTINCT call.tool IS NULL, call.buckets IS NULL, call.origin, call.request IS NULL, call.state,
    call.reason IS NULL, call.reserved, call.cost, call.amount, call.currency, call.usd_per_unit,
    call.meter IS NULL, call.contingent IS NULL, call.recurring, call.would_refuse IS NULL,
    call.prior IS NULL, length(call.object_id), call.http_status, call.evidence IS NULL,
    length(call.process), length(call.uid), position.state, position.value, position.last_call = seq,
    position.open_writes, position.currency IS NULL,
    (SELECT group_concat(kind || reserved || '/' || spent) FROM event WHERE event.call = call.seq)
FROM call JOIN position ON position.key = call.position
WHERE endpoint = ?
"""
