"""Is a reference read as its grammar says, and does no error repeat what may be a secret?"""

import pytest

from keybrake.config.references import Reference, Unreadable, parse, readable
from keybrake.errors import PolicyError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env://STRIPE_API_KEY", Reference("env", "STRIPE_API_KEY")),
        ("ref+env://STRIPE_API_KEY", Reference("env", "STRIPE_API_KEY")),
        ("file:///run/secrets/stripe", Reference("file", "/run/secrets/stripe")),
        ("file:///a%20b", Reference("file", "/a b")),
        ("vault://secret/stripe#/api_key", Reference("vault", "secret/stripe", (), ("api_key",))),
        (
            "ref+awssecrets://team/doc?region=us-west-2&region=eu#/foo/bar",
            Reference("awssecrets", "team/doc", (("region", "us-west-2"), ("region", "eu")), ("foo", "bar")),
        ),
        ("op://agents/twilio/token", Reference("op", "agents/twilio/token")),
        ("exec://op?args=read%20x", Reference("exec", "op", (("args", "read x"),))),
    ],
)  # fmt: skip
def test_what_is_written_is_read(text, expected):
    """``ref+`` may stand before it, escapes mean what they mean in a URL."""
    assert parse(text, "stripe") == expected


def test_it_shows_where_and_not_what():
    """The text of a reference is its place, to be named in an error."""
    reference = parse("ref+awssecrets://doc?region=eu#/foo/bar", "stripe")
    assert str(reference) == "awssecrets://doc?region=eu#/foo/bar"
    assert reference.param("region") == "eu"
    assert reference.param("version") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("env://STRIPE_API_KEY", "env://STRIPE_API_KEY"),
        ("awssecrets://doc?region=eu#/foo/bar", "awssecrets://doc?region=eu#/foo/bar"),
        ("exec://op?args=--token%20hunter2#/key", "exec://op?…#/key"),
        ("exec://op", "exec://op"),
        ("file:///a/sk_live_hunter2", "file:///a/<not shown>"),
        ("vault://me:hunter2@host/x", "vault://<not shown>@host/x"),
    ],
)
def test_what_people_are_shown_of_it(text, shown):
    """Enough to find the place, and nothing that may be a secret."""
    assert parse(text, "stripe").harmless == shown


@pytest.mark.parametrize(
    "text",
    ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "", "env://", "ENV://A", "://x", "env:/A", "env://A B", 5, None, True, b"env://A", ["env://A"]],
)  # fmt: skip
def test_what_is_no_reference_is_not_repeated(text):
    """Somebody wrote the secret itself where its place belongs."""
    with pytest.raises(PolicyError, match=r"^credentials.stripe is no reference") as refused:
        parse(text, "credentials.stripe")
    assert "4eC39" not in str(refused.value)


def test_a_scheme_that_nothing_reads_is_named_with_those_that_are():
    """With the remedy: what there is."""
    with pytest.raises(
        PolicyError,
        match=r"stripe: no source reads '?pony://'?; known are awssecrets://, .*env://, exec://, file://",
    ):
        readable("pony://x", "stripe")


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("plain", (), "plain"),
        ('{"a": "b"}', (), '{"a": "b"}'),
        ('{"a": {"b": "c"}}', ("a", "b"), "c"),
        ('{"a": 17}', ("a",), "17"),
    ],
)
def test_a_value_is_picked_from_json(text, keys, expected):
    """Without keys the text is the value."""
    assert Reference("env", "X", (), keys).pick(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hunter2", "is no JSON object, so it has no #/a/b"),
        ('"hunter2"', "has no #/a/b"),
        ('{"a": "hunter2"}', "has no #/a/b"),
        ('{"a": {"hunter2": 1}}', "has no #/a/b"),
        ('{"a": {"b": {"c": "hunter2"}}}', "holds no text at #/a/b"),
        ('{"a": {"b": true}}', "holds no text at #/a/b"),
        ('{"a": {"b": null}}', "holds no text at #/a/b"),
    ],
)
def test_what_cannot_be_picked_says_why_and_nothing_else(text, why):
    """What is there instead may be the secret."""
    with pytest.raises(Unreadable) as refused:
        Reference("env", "X", (), ("a", "b")).pick(text)
    assert str(refused.value) == why
    assert refused.value.__cause__ is None
