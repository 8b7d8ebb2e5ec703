"""Every source without a real service sees a rotated secret, and reports when its place is gone."""

import logging
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import vcr

import keybrake
from keybrake.config.credential_locations import places
from keybrake.config.references import parse, schemes
from keybrake.credentials import Credential, Credentials
from keybrake.errors import CredentialError
from tests.credentials._reach import in_reach
from tests.credentials._servers import HttpServer, SecretManager, onepassword_core

OLD, NEW = "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_rotated9HqLyjWDarjtT1zdp"
OTHER = f'{{"of_another": "{OLD}"}}'
TOKEN = "ops_hunter2"
ROOT = Path(__file__).parents[2]


class At(NamedTuple):
    """A place of a secret: its reference, how to store and to remove it, and the error after that."""

    reference: str
    keep: Callable[[str], object]
    lose: Callable[[], object]
    why: str


@contextmanager
def variable(patch, _) -> Iterator[At]:
    """Store the secret in an environment variable."""

    def keep(secret: str) -> None:
        patch.setenv("MINE", secret)

    yield At("env://MINE", keep, lambda: patch.delenv("MINE"), "is not set")


@contextmanager
def file(_, folder) -> Iterator[At]:
    """Store the secret in a file."""
    path = folder / "secret"
    yield At(f"file://{path}", path.write_text, path.unlink, "No such file or directory")


@contextmanager
def command(patch, folder) -> Iterator[At]:
    """Store the secret in a script that prints it."""
    script = folder / "get"

    def keep(secret: str) -> None:
        script.write_text(f"#!/bin/sh\necho {secret}\n")
        script.chmod(0o700)

    yield At(f"exec://{script}", keep, script.unlink, "cannot be run: No such file or directory")


@contextmanager
def op(patch, folder) -> Iterator[At]:
    """Store the secret in a script that stands in for the command ``op``."""
    patch.delenv("OP_SERVICE_ACCOUNT_TOKEN", raising=False)
    patch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    script = folder / "op"

    def keep(secret: str) -> None:
        script.write_text(f"#!/bin/sh\nprintf %s {secret}\n")
        script.chmod(0o700)

    yield At("op://agents/stripe/key", keep, script.unlink, "there is no command op")


@contextmanager
def service_account(patch, _) -> Iterator[At]:
    """Store the secret in the stand-in for 1Password's native library."""
    patch.setenv("OP_SERVICE_ACCOUNT_TOKEN", TOKEN)
    reference = "op://agents/stripe/key"
    with onepassword_core(patch) as core:

        def keep(secret: str) -> None:
            core.kept[reference] = secret

        def lose() -> None:
            core.refuses = "error sending request"

        yield At(reference, keep, lose, "was not returned: error sending request")


@contextmanager
def doppler(patch, _) -> Iterator[At]:
    """Store the secret in a stand-in for Doppler."""
    server = HttpServer()
    patch.setenv("DOPPLER_TOKEN", TOKEN)
    patch.setenv("DOPPLER_API_HOST", server.url)
    why = f"{server.url} does not answer: ConnectionRefusedError"
    yield At("doppler://agents/prd/KEY", server.keep, server.stop, why)
    server.stop()


@contextmanager
def connect(patch, _) -> Iterator[At]:
    """Store the secret in a stand-in for 1Password Connect."""
    server = HttpServer()
    patch.setenv("OP_CONNECT_TOKEN", TOKEN)
    patch.setenv("OP_CONNECT_HOST", server.url)
    why = f"{server.url} does not answer: ConnectionRefusedError"
    yield At("onepasswordconnect://agents/stripe#/live/key", server.keep, server.stop, why)
    server.stop()


@contextmanager
def vault(patch, _, engine="secret") -> Iterator[At]:
    """Store the secret in a Vault stand-in that describes neither its mounts nor its tokens."""
    server = HttpServer()
    patch.setenv("VAULT_TOKEN", TOKEN)
    patch.setenv("VAULT_ADDR", server.url)
    why = f"{server.url} does not answer: ConnectionError"
    yield At(f"vault://{engine}/agents/stripe#/api_key", server.keep, server.stop, why)
    server.stop()


def old_vault(patch, folder) -> AbstractContextManager[At]:
    """Store the secret in key-value engine 1."""
    return vault(patch, folder, "old")


@contextmanager
def secret_manager(patch, _) -> Iterator[At]:
    """Store the secret in a stand-in for Google's Secret Manager."""
    server = SecretManager()
    patch.setenv("SECRET_MANAGER_EMULATOR_HOST", server.address)

    def keep(secret: str) -> None:
        server.keep("stripe", secret)

    yield At("gcpsecrets://agents/stripe", keep, server.stop, "Secret Manager does not answer")
    server.stop()


@contextmanager
def system_keyring(*_) -> Iterator[At]:
    """Store the secret in an in-memory keyring."""
    import keyring
    from keyring.backends import fail

    before = keyring.get_keyring()
    keyring.set_keyring(_ring())

    def keep(secret: str) -> None:
        keyring.set_password("keybrake", "stripe", secret)

    def lose() -> None:
        keyring.set_keyring(fail.Keyring())

    try:
        yield At("keyring://keybrake/stripe", keep, lose, "this machine has no keyring")
    finally:
        keyring.set_keyring(before)


def _ring():
    from keyring import backend

    class Ring(backend.KeyringBackend):
        priority = 1

        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[tuple[str, str], str] = {}

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get((service, username))

    return Ring()


ALL: list[Callable[..., AbstractContextManager[At]]] = [
    variable, file, command, op, service_account, doppler, connect, vault, old_vault, secret_manager,
    system_keyring,
]  # fmt: skip
# test_vault.py and test_aws.py test these against real servers.
ELSEWHERE = {"openbao", "awssecrets", "awsssm"}


@pytest.fixture(params=ALL, ids=lambda place: place.__name__)
def at(request, monkeypatch, tmp_path) -> Iterator[At]:
    """Yield each place, with a secret in it."""
    with request.param(monkeypatch, tmp_path) as place:
        place.keep(OLD)
        yield place


def known(at, ttl_s=3600):
    """Return credentials with the secret as Stripe's."""
    return Credentials({"stripe": {"secret": parse(at.reference, "stripe")}}, ttl_s)


def test_a_secret_is_cached_for_its_ttl(at):
    """A cached secret is still returned after its place is gone."""
    told = known(at)
    assert told.get("stripe") == Credential(OLD)
    at.lose()
    assert told.get("stripe") == Credential(OLD)


def test_a_rotated_secret_is_seen_after_the_ttl(at):
    """The new secret is fetched without a restart."""
    told = known(at, 0.01)
    assert told.get("stripe") == Credential(OLD)
    at.keep(NEW)
    time.sleep(0.02)
    assert told.get("stripe") == Credential(NEW)


def test_a_refusal_by_the_vendor_fetches_the_rotated_secret(at):
    """Before its TTL ends, only a refusal by the vendor replaces the old secret."""
    told = known(at)
    old = told.get("stripe")
    at.keep(NEW)
    assert told.get("stripe") == old == Credential(OLD)
    assert told.get("stripe", refused=old) == Credential(NEW)
    assert told.get("stripe", refused=old) == told.get("stripe") == Credential(NEW)


def test_a_missing_place_is_reported(at):
    """The error comes in bounded time and has the reference, but neither the secret nor the token."""
    at.lose()
    began = time.monotonic()
    with pytest.raises(CredentialError) as refused:
        known(at).get("stripe")
    assert time.monotonic() - began < 10
    said = str(refused.value)
    assert said.startswith(f"credentials.stripe: {at.reference} ")
    assert at.why in said
    assert OLD not in said
    assert TOKEN not in said


def test_an_old_secret_is_not_used_when_its_place_is_gone(at):
    """It is returned neither after its TTL nor after a refusal by the vendor."""
    short, lasting = known(at, 0.01), known(at)
    old = lasting.get("stripe")
    assert short.get("stripe") == old
    at.lose()
    time.sleep(0.02)
    for ask in (lambda: short.get("stripe"), lambda: lasting.get("stripe", refused=old)):
        with pytest.raises(CredentialError, match=re.escape(at.why)):
            ask()


def test_no_error_has_the_secret_or_the_token(at):
    """Neither the frames of an error nor those of its context contain them."""
    at.keep(OLD if "onepasswordconnect" in at.reference or "vault" in at.reference else OTHER)
    reference = f"{at.reference.partition('#')[0]}#/missing"
    with pytest.raises(CredentialError) as refused:
        Credentials({"stripe": {"secret": parse(reference, "stripe")}}, 9).get("stripe")
    seen = in_reach(refused.value)
    assert OLD not in seen
    assert TOKEN not in seen


def test_no_debug_log_has_the_secret_or_the_token(at, caplog):
    """Reading a source logs neither of them at DEBUG level."""
    caplog.set_level(logging.DEBUG)
    assert known(at).get("stripe") == Credential(OLD)
    told = [
        *(record.getMessage() for record in caplog.records),
        *map(str, map(vars, caplog.records)),
    ]
    assert not any(part in text for text in told for part in (OLD, TOKEN))


def test_vcrpy_does_not_record_a_source(at, tmp_path, caplog):
    """A cassette around the agent's work records no request to a source, and blocks none."""
    keybrake.install()
    caplog.set_level(logging.DEBUG)
    for mode in ("all", "none"):
        with vcr.use_cassette(str(tmp_path / "c.yaml"), record_mode=mode) as cassette:
            assert known(at).get("stripe") == Credential(OLD)
        assert len(cassette) == 0
    assert OLD not in caplog.text


def test_every_source_is_tested_here(monkeypatch, tmp_path):
    """Each registered scheme has a place in this file or is tested in another one."""
    tried = set()
    for place in ALL:
        with monkeypatch.context() as patch, place(patch, tmp_path) as at:
            tried.add(parse(at.reference, "").scheme)
    assert tried | ELSEWHERE == set(schemes())


def test_each_source_names_its_secret_variables():
    """SECRETS lists the environment variables with the login of the source."""
    secrets = {scheme: point.load().SECRETS for scheme, point in schemes().items()}
    assert secrets["vault"] == secrets["openbao"]
    assert {"VAULT_TOKEN", "BAO_TOKEN", "VAULT_SECRET_ID", "BAO_SECRET_ID"} == {*secrets["vault"]}
    assert secrets["doppler"] == ("DOPPLER_TOKEN",)
    assert "OP_SERVICE_ACCOUNT_TOKEN" in secrets["op"]
    assert secrets["onepasswordconnect"] == ("OP_CONNECT_TOKEN",)
    for scheme in ("awssecrets", "awsssm", "gcpsecrets", "keyring", "env", "file", "exec"):
        assert secrets[scheme] == ()


# The pages


def told_by(page):
    """Return the credentials in the keybrake.toml of a page."""
    text = (ROOT / "docs/how-to" / page).read_text("utf-8")
    (written,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found, ttl = places(tomllib.loads(written)["credentials"], "credentials")
    return Credentials(found, ttl)


def test_the_page_about_doppler_is_true(monkeypatch):
    """The keybrake.toml in docs/how-to/doppler.md requests the secrets that the page names."""
    server = HttpServer()
    monkeypatch.setenv("DOPPLER_TOKEN", TOKEN)
    monkeypatch.setenv("DOPPLER_API_HOST", server.url)
    told = told_by("doppler.md")
    try:
        server.keep(OLD)
        assert told.get("stripe") == Credential(OLD)
        server.keep("re_1")
        assert told.get("resend") == Credential("re_1")
        server.keep('{"sid": "AC1", "token": "t"}')
        assert told.get("twilio") == Credential("t", "AC1")
    finally:
        server.stop()
    asked = [path.partition("?")[2] for path, _ in server.asked]
    names = ("STRIPE_KEY", "RESEND_KEY", "TWILIO", "TWILIO")
    assert asked == [f"project=agents&config=prd&name={name}" for name in names]


def test_the_page_about_the_keyring_is_true():
    """The keybrake.toml in docs/how-to/keyring.md finds the secrets that the page stores."""
    import keyring

    with system_keyring() as at:
        at.keep(OLD)
        keyring.set_password("keybrake", "twilio", "t")
        keyring.set_password("keybrake", "mail", '{"key": "re_1"}')
        told = told_by("keyring.md")
        assert told.get("stripe") == Credential(OLD)
        assert told.get("twilio") == Credential("t", "AC0123456789abcdef0123456789abcdef")
        assert told.get("resend") == Credential("re_1")
