"""Is what people read harmless to their terminal and hides nothing."""

import json
import unicodedata

import pytest

from keybrake.cli.ui.table import _cut
from keybrake.cli.ui.text import json_array, moment, safe, to_json


def test_no_character_that_acts_or_hides_is_shown():
    """Of all of Unicode, no control, format, bidi, surrogate or separator character comes through."""
    shown = safe("".join(map(chr, range(0x110000))))

    acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert {c for c in shown if unicodedata.category(c) in acting} == set()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Zürich, 東京", "Zürich, 東京"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\x00", "a\\nb\\x00"),
        ("\u202e", "\\u202e"),
        ("\u200b", "\\u200b"),
        ("\u3164", "\\u3164"),
        ("⚠\ufe0f go", "⚠ go"),
        ("\x9b", "\\x9b"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_harmful_characters_are_shown_as_escapes(text, shown):
    """Letters stay as they are, and what would act on the terminal is written out."""
    assert safe(text) == shown


def test_json_is_printable_ascii_and_exact():
    """JSON escapes every control and non-ASCII character, and reads back as it was."""
    hostile = "".join(map(chr, range(0x100))) + "\u202e\u200b"

    text = to_json(hostile)

    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == hostile


def test_an_empty_json_array_is_one():
    """No rows are an empty array, not nothing."""
    assert json.loads(json_array([])) == []


def test_a_moment_of_another_day_keeps_its_date():
    """A brief moment leaves the date out only if it is today's."""
    assert moment("2001-02-03T04:05:06.000007Z", brief=True) == "2001-02-03 04:05"
    assert moment("2001-02-03T04:05:06.000007Z", brief=False) == "2001-02-03T04:05:06Z"
    assert moment(None, brief=True) == ""


def test_letters_that_take_two_columns_are_cut_in_two_columns():
    """A text of wide letters is cut to the columns there are, not to that many letters."""
    assert _cut("東京東京", 5) == "東京…"
