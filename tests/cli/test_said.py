"""Does a person see which ledger a command read?"""

import pytest

READING = (
    ["runs"], ["show", "invoice-agent"], ["log"], ["spend"], ["unresolved"], ["verify"], ["export", "--csv"],
    ["runs", "--json"],
)  # fmt: skip


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_people_are_told_which_ledger_was_read(at_terminal, books, words):
    """At a terminal the first line on standard error names the ledger's file."""
    told = at_terminal("--ledger", books.url, *words)

    assert told.err.splitlines()[0] == f"ledger: {books.path}"
    assert "ledger: /" not in told.out


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_programs_are_not_told_which_ledger_was_read(cli, books, words):
    """Where nobody looks at standard error, nothing is written to it."""
    assert cli("--ledger", books.url, *words).err == ""
