"""Google's client reads secrets from a Secret Manager server, and errors say why not."""

import json
import re
import socket
import sys
import threading
import time
import tomllib
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keybrake.config.credential_locations import places
from keybrake.config.references import Reference, Unreadable, parse
from keybrake.credentials import Credential, Credentials, SourceFailed
from keybrake.credentials.gcp import SecretManagerSource
from keybrake.credentials.source import source
from keybrake.errors import CredentialError
from tests.credentials._servers import SecretManager

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture
def server(monkeypatch):
    """Start a stand-in server with one secret."""
    running = SecretManager()
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", running.address)
    running.keep("stripe", f'{{"api_key": "{SECRET}", "n": {{"a": 1}}}}')
    yield running
    running.stop()


def fetch(path="agents/stripe", keys=("api_key",), **facts):
    """Return a secret through the Secret Manager source."""
    return SecretManagerSource().fetch(Reference("gcpsecrets", path, tuple(facts.items()), keys))


def known(ttl_s=3600):
    """Return credentials with one for Stripe."""
    return Credentials(
        {"stripe": {"secret": parse("gcpsecrets://agents/stripe#/api_key", "")}}, ttl_s
    )


def test_a_secret_is_read_whole_or_by_key(server):
    """The source returns the text without its final line end, or one value of a JSON object."""
    assert fetch() == SECRET
    assert fetch(keys=("n", "a")) == "1"
    server.keep("plain", f"{SECRET}\n")
    assert fetch("/agents/plain/", ()) == SECRET
    assert server.asked[-1] == "projects/agents/secrets/plain/versions/latest"


def test_a_version_can_be_named(server):
    """The newest version is read, unless the reference names one by number or alias."""
    server.keep("stripe", "older", version="3")
    server.keep("stripe", "mine", version="live")
    assert fetch(keys=(), version="3") == "older"
    assert fetch(keys=(), version="live") == "mine"


def test_a_rotated_secret_is_seen(server):
    """The new secret is fetched after the TTL, and at once if the vendor refused the old one."""
    lasting, short = known(), known(0.01)
    assert lasting.get("stripe") == short.get("stripe") == Credential(SECRET)
    server.keep("stripe", '{"api_key": "rotated"}')
    assert lasting.get("stripe") == Credential(SECRET)
    time.sleep(0.02)
    assert short.get("stripe") == Credential("rotated")
    assert lasting.get("stripe", refused=Credential(SECRET)) == Credential("rotated")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "was not returned: PermissionDenied"),
        (grpc.StatusCode.UNAUTHENTICATED, "was not returned: Unauthenticated"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "was not returned: ResourceExhausted"),
        (grpc.StatusCode.FAILED_PRECONDITION, "was not returned: FailedPrecondition"),
        (grpc.StatusCode.INTERNAL, "was not returned: InternalServerError"),
        (grpc.StatusCode.UNAVAILABLE, "Secret Manager does not answer: ServiceUnavailable"),
    ],
)
def test_a_refusal_is_reported_by_its_class(server, status, why):
    """The error names Google's error class, not its text, and there is only one request."""
    server.refuses = status
    with pytest.raises(SourceFailed, match=why) as refused:
        fetch()
    assert SECRET not in str(refused.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: fetch("agents/none"), "was not returned: NotFound"),
        (lambda: fetch(version="7"), "was not returned: NotFound"),
        (lambda: fetch(keys=("none",)), "has no #/none"),
        (lambda: fetch(keys=("n",)), "holds no text at #/n"),
        (lambda: fetch("stripe"), "is not PROJECT/SECRET"),
        (lambda: fetch("agents//stripe"), "is not PROJECT/SECRET"),
        (lambda: fetch("agents/stripe/versions"), "is not PROJECT/SECRET"),
        (lambda: fetch(version="1/../2"), "is not PROJECT/SECRET"),
    ],
)
def test_a_missing_secret_is_reported(server, ask, why):
    """The error contains no part of the existing secret."""
    with pytest.raises((SourceFailed, Unreadable), match=why) as refused:
        ask()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("checksum", [0, 1])
def test_a_wrong_checksum_is_refused(server, checksum):
    """A secret whose checksum is wrong or missing is not used."""
    server.checksum = checksum
    with pytest.raises(SourceFailed, match="was changed on its way") as refused:
        fetch()
    assert SECRET not in str(refused.value)


def test_a_secret_must_be_utf8_text(server):
    """Bytes that are not UTF-8 are refused."""
    server.keep("bytes", b"\xff\xfe")
    with pytest.raises(SourceFailed, match="is no text in UTF-8"):
        fetch("agents/bytes", ())


def test_a_server_that_is_down_is_reported(server, monkeypatch):
    """The error comes at once, with the reference and without the secret."""
    assert known().get("stripe") == Credential(SECRET)
    server.stop()
    began = time.monotonic()
    with pytest.raises(CredentialError) as refused:
        known().get("stripe")
    assert time.monotonic() - began < 10
    assert str(refused.value) == (
        "credentials.stripe: gcpsecrets://agents/stripe#/api_key cannot be read: "
        "Secret Manager does not answer: ServiceUnavailable"
    )


def test_a_silent_server_times_out(monkeypatch):
    """A server that accepts the connection but never answers is given up."""
    monkeypatch.setattr("keybrake.credentials.gcp._TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", address)
        began = time.monotonic()
        with pytest.raises(SourceFailed, match="does not answer: DeadlineExceeded"):
            fetch()
        assert time.monotonic() - began < 10


def test_an_emulator_must_run_on_this_machine(server, monkeypatch):
    """A secret crosses no network unencrypted, and passes no proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch() == SECRET
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", "emulator.example.com:8085")
    with pytest.raises(SourceFailed, match="would be read unencrypted"):
        fetch()


@pytest.fixture
def account(monkeypatch, tmp_path):
    """Return a function that writes the file of an account in an unreachable cloud."""
    monkeypatch.delenv("SECRET_MANAGER_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.invalid")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))

    def write(**other: str) -> None:
        content = {
            "type": "service_account",
            "project_id": "agents",
            "private_key": private_key(),
            "client_email": "agent@example.invalid",
            "token_uri": "https://oauth2.example.invalid/token",
            "universe_domain": "example.invalid",
        }
        (tmp_path / "account.json").write_text(json.dumps(content | other))

    return write


def private_key():
    """Return a new private key in the format of an account file."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    how = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.private_bytes(*how).decode()


def test_an_unreachable_cloud_is_reported(account):
    """Without an emulator the real client is used, with an account and TLS."""
    account()
    began = time.monotonic()
    with pytest.raises(SourceFailed, match="Secret Manager does not answer"):
        fetch()
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"private_key": "hunter2"}, "[A-Za-z]*Error"),
        ({"type": "hunter2"}, "DefaultCredentialsError"),
    ],
)
def test_an_unusable_account_is_reported(account, other, why):
    """The error names the class of Google's error, and no content of the account file."""
    account(**other)
    with pytest.raises(SourceFailed, match=f"^cannot be read: {why}$"):
        fetch()


def test_a_missing_account_is_reported(account, monkeypatch, tmp_path):
    """Without a readable account file no request is sent, and the error names the class."""
    with pytest.raises(SourceFailed, match="cannot be read: DefaultCredentialsError"):
        fetch()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    with pytest.raises(SourceFailed, match="cannot be read: IsADirectoryError"):
        fetch()


def test_a_missing_package_names_the_extra(monkeypatch):
    """The error names the extra to install, which is called like the scheme."""
    monkeypatch.setitem(sys.modules, "google.cloud.secretmanager_v1", None)
    monkeypatch.delitem(sys.modules, "keybrake.credentials.gcp")
    monkeypatch.setattr("keybrake.credentials.source._sources", {})
    with pytest.raises(SourceFailed, match=r"pip install 'keybrake\[gcpsecrets\]'"):
        source("gcpsecrets")


def test_threads_can_share_a_source(server):
    """Several threads read from one source at the same time."""
    made, got = SecretManagerSource(), []
    where = Reference("gcpsecrets", "agents/stripe", (), ("api_key",))
    threads = [threading.Thread(target=lambda: got.append(made.fetch(where))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [SECRET] * 8


def test_the_page_is_true(server):
    """The keybrake.toml in docs/how-to/gcp.md finds the secrets that the page names."""
    page = (Path(__file__).parents[2] / "docs/how-to/gcp.md").read_text("utf-8")
    (written,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    server.keep("twilio", '{"sid": "AC1", "token": "t"}')
    server.keep("resend", "re_1", version="3")
    found, ttl = places(tomllib.loads(written)["credentials"], "credentials")
    told = Credentials(found, ttl)
    assert told.get("stripe") == Credential(SECRET)
    assert told.get("twilio") == Credential("t", "AC1")
    assert told.get("resend") == Credential("re_1")
