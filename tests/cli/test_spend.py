"""Does ``keybrake spend`` add up what the ledger's views add up."""

import sqlite3

import pytest


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("run", ["run_id", "label", "spent_micros", "reserved_micros", "calls", "refused"]),
        ("endpoint", ["endpoint", "spent_micros", "reserved_micros", "calls", "refused"]),
        ("day", ["day", "spent_micros", "reserved_micros", "calls", "refused"]),
        (
            "tool",
            ["run_id", "label", "tool", "spent_micros", "reserved_micros", "calls", "refused"],
        ),
    ],
)
def test_json_has_the_view_without_floats(quick, books, by, keys):
    """Every row of the view is there, with its counts in micro-USD."""
    rows = quick("--ledger", books.url, "spend", "--by", by, "--json").json

    with sqlite3.connect(books.path) as connection:
        spent = connection.execute(f"SELECT sum(spent_micros) FROM spend_by_{by}").fetchone()[0]
    connection.close()
    assert [list(row) for row in rows] == [keys] * len(rows)
    assert sum(row["spent_micros"] for row in rows) == spent > 0


def test_people_read_dollars_by_run(cli, books):
    """Without options it is by run, in dollars, and a hostile label does nothing."""
    out = cli("--ledger", books.url, "spend").out

    assert out.splitlines()[1].split()[1:3] == ["invoice-agent", "$35.99"]
    assert all(c == "\n" or c.isprintable() for c in out)
