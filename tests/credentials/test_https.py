"""Doppler and 1Password return secrets, and no token goes to another host."""

import socket
from collections.abc import Iterator

import pytest

from keybrake.config.references import Reference
from keybrake.credentials import SourceFailed
from keybrake.credentials.source import source
from tests.credentials._servers import ITEM, VAULT, HttpServer

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
TOKEN = "dp.st.hunter2"


@pytest.fixture
def server(monkeypatch) -> Iterator[HttpServer]:
    """Start a server for both, with a secret in each."""
    running = HttpServer()
    monkeypatch.setenv("DOPPLER_TOKEN", TOKEN)
    monkeypatch.setenv("DOPPLER_API_HOST", running.url)
    monkeypatch.setenv("OP_CONNECT_HOST", running.url)
    monkeypatch.setenv("OP_CONNECT_TOKEN", TOKEN)
    running.keep(SECRET)
    yield running
    running.stop()


def doppler(path="agents/prd/KEY", keys=()):
    """Return a secret through the Doppler source."""
    return source("doppler").fetch(Reference("doppler", path, (), keys))


def connect(path="agents/stripe", keys=("live", "key")):
    """Return a secret through the 1Password Connect source."""
    return source("onepasswordconnect").fetch(Reference("onepasswordconnect", path, (), keys))


def test_doppler_returns_the_computed_value(server):
    """The source returns the value with its references resolved, and sees a rotated secret."""
    assert doppler() == SECRET
    assert server.asked == [
        ("/v3/configs/config/secret?project=agents&config=prd&name=KEY", f"Bearer {TOKEN}")
    ]
    server.keep('{"key": "rotated"}')
    assert doppler(keys=("key",)) == "rotated"


def test_connect_finds_a_field_by_name_or_id(server):
    """Vault, item and field are found by name or id, with or without a section."""
    assert connect() == connect(keys=("f1",)) == connect(keys=("s1", "f1")) == SECRET
    assert connect(f"{VAULT}/{ITEM}") == connect(f"/agents/{ITEM}/") == SECRET
    assert connect(keys=("note",)) == "x"
    server.keep("rotated")
    assert connect() == "rotated"
    assert {token for _, token in server.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: doppler("agents/KEY"), "is not PROJECT/CONFIG/NAME"),
        (lambda: connect("stripe"), "is not VAULT/ITEM#/FIELD"),
        (lambda: connect("a/b/c"), "is not VAULT/ITEM#/FIELD"),
        (lambda: connect(keys=()), "is not VAULT/ITEM#/FIELD"),
        (lambda: connect(keys=("key",)), "has 2 fields of that name"),
        (lambda: connect(keys=("none",)), "has 0 fields of that name"),
        (lambda: connect(keys=("empty",)), "holds no value"),
        (lambda: connect("twice/stripe"), "has a name that 2 have; name one by its id"),
        (lambda: connect('a" or name eq "b/stripe'), "has a name with a quote or backslash"),
        (lambda: connect("none/stripe"), r"was not returned: .* answered 404"),
    ],
)
def test_a_missing_secret_is_reported(server, ask, why):
    """The error contains no part of the existing secret."""
    with pytest.raises(SourceFailed, match=why) as refused:
        ask()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("status", [302, 401, 403, 500])
def test_only_a_success_is_a_secret(server, status):
    """An error status is refused and a redirect is not followed, because the token is for one host."""
    elsewhere = HttpServer()
    try:
        server.answers["/v3/configs/config/secret"] = (status, f"{elsewhere.url}/x")
        with pytest.raises(SourceFailed, match=f"answered {status}") as refused:
            doppler()
        assert TOKEN not in str(refused.value)
        assert elsewhere.asked == []
    finally:
        elsewhere.stop()


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"value": {"computed": null}}', b'{"value": {}}']
)
def test_an_answer_without_a_value_is_refused(server, body):
    """An answer that is not JSON, or has no value, is not a secret."""
    server.answers["/v3/configs/config/secret"] = (200, body)
    with pytest.raises(SourceFailed, match=r"cannot be read|holds no value"):
        doppler()


def test_a_server_that_is_down_is_reported(server, monkeypatch):
    """The error names the server, and an unencrypted address gets no request."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("DOPPLER_API_HOST", url)
        with pytest.raises(SourceFailed, match=f"{url} does not answer: ConnectionRefusedError"):
            doppler()
    for address in ("http://doppler.example.com", "ftp://localhost", "file://localhost/etc"):
        monkeypatch.setenv("DOPPLER_API_HOST", address)
        with pytest.raises(SourceFailed, match="would be read unencrypted"):
            doppler()


@pytest.mark.parametrize(
    ("name", "ask"), [("DOPPLER_TOKEN", doppler), ("OP_CONNECT_TOKEN", connect)]
)
def test_missing_variables_are_named(server, monkeypatch, name, ask):
    """The error names the environment variables to set."""
    monkeypatch.delenv(name)
    with pytest.raises(SourceFailed, match=f"set .*{name}"):
        ask()


def test_op_read_gets_the_reference(tmp_path, monkeypatch):
    """The op command gets the reference in 1Password's notation."""
    monkeypatch.delenv("OP_SERVICE_ACCOUNT_TOKEN", raising=False)
    script = tmp_path / "op"
    script.write_text('#!/bin/sh\n[ "$1 $2" = "read --no-newline" ] && printf %s "$3"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    read = source("op").fetch
    assert read(Reference("op", "agents/my item/key")) == "op://agents/my item/key"
    assert (
        read(Reference("op", "a/it's/key", (("attribute", "otp"),)))
        == "op://a/it's/key?attribute=otp"
    )
    script.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SourceFailed, match="ended with exit code 1"):
        read(Reference("op", "agents/stripe/key"))


# The system's keyring


def test_the_keyring_is_read_by_service_and_user(monkeypatch):
    """A keyring that is locked or missing is reported."""
    import keyring
    from keyring import backend, errors

    class Ring(backend.KeyringBackend):
        priority = 1

        def __init__(self) -> None:
            super().__init__()
            self.error: Exception | None = None
            self.kept: dict[tuple[str, str], str] = {}

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def get_password(self, service: str, username: str) -> str | None:
            if self.error is not None:
                raise self.error
            return self.kept.get((service, username))

    ring, before = Ring(), keyring.get_keyring()
    keyring.set_keyring(ring)
    try:
        read = source("keyring").fetch
        where = Reference("keyring", "keybrake/stripe/live")
        with pytest.raises(SourceFailed, match="is not there; keyring set keybrake stripe/live"):
            read(where)
        keyring.set_password("keybrake", "stripe/live", SECRET)
        assert read(where) == SECRET
        keyring.set_password("keybrake", "stripe/live", '{"key": "rotated"}')
        assert read(Reference("keyring", "keybrake/stripe/live", (), ("key",))) == "rotated"
        ring.error = errors.KeyringLocked("hunter2")
        with pytest.raises(SourceFailed, match="cannot be read: KeyringLocked"):
            read(where)
        ring.error = errors.NoKeyringError()
        with pytest.raises(SourceFailed, match="this machine has no keyring"):
            read(where)
    finally:
        keyring.set_keyring(before)
