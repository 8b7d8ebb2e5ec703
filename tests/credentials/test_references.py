"""References are parsed by their grammar, and no error repeats a possible secret."""

import pytest

from keybrake.config.references import Reference, Unreadable, parse, readable
from keybrake.errors import PolicyError
from tests._each import each


@each(
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
def test_a_reference_is_parsed(text, expected):
    """An optional ref+ is accepted, and escapes work as in a URL."""
    assert parse(text, "stripe") == expected


def test_a_reference_shows_its_place():
    """The text of a reference names its place, so that an error can show it."""
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
def test_a_displayed_reference_hides_secrets(text, shown):
    """The displayed text is enough to find the place, and has no possible secret."""
    assert parse(text, "stripe").harmless == shown


@each(
    "text",
    ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "", "env://", "ENV://A", "://x", "env:/A", "env://A B", 5, None, True, b"env://A", ["env://A"]],
)  # fmt: skip
def test_an_invalid_reference_is_not_repeated(text):
    """The value may be the secret itself, so the error does not show it."""
    with pytest.raises(PolicyError, match=r"^credentials.stripe is no reference") as refused:
        parse(text, "credentials.stripe")
    assert "4eC39" not in str(refused.value)


def test_an_unknown_scheme_lists_the_known_ones():
    """The error names the unknown scheme and every scheme that has a source."""
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
    """The keys lead to a value in a JSON object, and without keys the text is the value."""
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
def test_a_missing_key_reveals_nothing(text, why):
    """The error says why, but shows no content, which may be the secret."""
    with pytest.raises(Unreadable) as refused:
        Reference("env", "X", (), ("a", "b")).pick(text)
    assert str(refused.value) == why
    assert refused.value.__cause__ is None
