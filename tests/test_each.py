"""Does a table that one test goes through hide no case that fails?"""

import pytest

from tests._each import each


def test_every_case_that_fails_is_named():
    """The cases after a failure are tried, and all failures are told at once."""
    tried = []

    @each("number, word", [(1, "one"), pytest.param(2, "two", id="second"), (3, "three")])
    def check(number, word):
        tried.append(word)
        assert number == 1
        pytest.fail("unreachable")

    with pytest.raises(AssertionError) as failure:
        check()

    assert tried == ["one", "two", "three"]
    lines = str(failure.value).splitlines()
    assert lines[0] == "3 of 3 cases fail"
    assert [line.split("]")[0] for line in lines if line.startswith("[")] == [
        "[1-'one'",
        "[second",
        "[3-'three'",
    ]


def test_tables_multiply_and_leave_fixtures_to_pytest(tmp_path):
    """Each case of one table meets each of the other; what is in no table is passed on."""
    seen = []

    @each("a", [1, 2])
    @each("b", "xy", ids=str)
    def check(a, b, tmp_path):
        seen.append((a, b, tmp_path))

    check(tmp_path=tmp_path)

    assert seen == [(a, b, tmp_path) for a in (1, 2) for b in "xy"]


def test_a_table_without_cases_is_no_test():
    """An empty table would pass whatever the code does."""
    with pytest.raises(ValueError, match="no case of row"):
        each("row", [])
