"""Does ``keybrake runs`` say who has spent what."""

import pytest

KEYS = [
    "id",
    "label",
    "state",
    "parent_id",
    "opened_at",
    "expires_at",
    "cap_micros",
    "spent_micros",
    "reserved_micros",
    "remaining_micros",
    "calls",
    "refused",
]


def test_json_is_one_complete_array(cli, books):
    """Every run is there, oldest first, with exactly the documented keys."""
    told = cli("--ledger", books.url, "runs", "--json")

    runs = told.json
    assert (told.code, told.err) == (0, "")
    assert [list(run) for run in runs] == [KEYS] * len(runs)
    assert [run["label"] for run in runs] == [
        "invoice-agent",
        "child-agent",
        *books.hostile,
        "open",
        "paused",
        "revoked",
        "joined",
        "twin",
        "twin",
    ]


def test_json_counts_what_the_ledger_counts(quick, books):
    """Amounts are micro-USD, moments ISO 8601 in UTC, and a child is under its parent."""
    parent, child = quick("--ledger", books.url, "runs", "--json").json[:2]

    assert parent["id"] == books.ids["invoice"]
    assert parent["spent_micros"] == 29_990_000 + 5_000_000 + 1_000_000
    assert parent["reserved_micros"] == 7_000_000
    assert parent["remaining_micros"] == 100_000_000 - 35_990_000 - 7_000_000
    assert (parent["calls"], parent["refused"], parent["state"]) == (5, 1, "closed")
    assert parent["parent_id"] is None
    assert child["parent_id"] == parent["id"]
    assert parent["opened_at"][10] == "T"
    assert parent["expires_at"].endswith("Z")


def test_a_run_without_a_cap_has_nulls(quick, books):
    """No cap is null, and so is what would remain of it."""
    run = quick("--ledger", books.url, "runs", "--json", "--label", books.hostile[1]).json[0]

    assert (run["cap_micros"], run["remaining_micros"]) == (None, None)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--state", "paused"], ["paused"]),
        (["--state", "revoked"], ["revoked"]),
        (["--state", "open", "--limit", "3"], ["joined", "twin", "twin"]),
        (["--label", "twin"], ["twin", "twin"]),
        (["--label", "twi"], []),
        (["--limit", "1"], ["twin"]),
        (["--limit", "0"], []),
    ],
)
def test_options_choose_runs(quick, books, options, labels):
    """State and label choose, and a limit keeps the newest."""
    runs = quick("--ledger", books.url, "runs", "--json", *options).json

    assert [run["label"] for run in runs] == labels


def test_people_get_an_aligned_table(cli, books):
    """In a pipe the table is plain text in dollars whose columns stand below their titles."""
    out = cli("--ledger", books.url, "runs").out

    head, first, *_ = out.splitlines()
    assert "\x1b" not in out
    assert first.index("invoice-agent") == head.index("label")
    assert first.index("$35.99") + len("$35.99") == head.index("spent") + len("spent")
    assert all(line == line.rstrip() for line in out.splitlines())


def test_hostile_labels_do_nothing(cli, at_terminal, books):
    """Neither in a pipe nor at a terminal does a label act, hide, break a line or become markup."""
    piped = cli("--ledger", books.url, "runs").out
    seen = at_terminal("--ledger", books.url, "runs", NO_COLOR="1").out

    for shown in (piped, seen):
        assert all(c == "\n" or c.isprintable() for c in shown)
        assert len(shown.splitlines()) == 1 + 14
    assert "\\x1b]52;c;c2VjcmV0\\x07osc" in piped
    assert "pay \\u202eevil\\u202c" in piped
    assert "two\\nlines\\x00nul" in piped
    assert "[bold red]loud[/]" in piped


def test_json_escapes_hostile_labels(cli, books):
    """JSON is printable ASCII that reads back to the labels as they are."""
    out = cli("--ledger", books.url, "runs", "--json").out

    assert all(c == "\n" or (c.isascii() and c.isprintable()) for c in out)


@pytest.mark.parametrize("columns", [40, 80, 110])
def test_a_table_fits_its_terminal(at_terminal, books, columns):
    """No line is wider than the terminal, and what is left out last is who and how much."""
    lines = at_terminal(
        "--ledger", books.url, "runs", columns=columns, NO_COLOR="1"
    ).out.splitlines()

    assert len(lines) == 1 + 14
    assert max(map(len, lines)) <= columns
    assert "label" in lines[0]
    assert ("remaining" in lines[0]) is (columns >= 80)


def test_a_terminal_gets_colours(at_terminal, books):
    """At a terminal there are colours, and NO_COLOR takes every escape away."""
    assert "\x1b[" in at_terminal("--ledger", books.url, "runs").out
    assert "\x1b" not in at_terminal("--ledger", books.url, "runs", NO_COLOR="1").out
