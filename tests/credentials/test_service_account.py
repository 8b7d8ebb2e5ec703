"""A 1Password service account reads secrets by the package, or by the op command without it."""

import asyncio
import base64
import json
import re
import socket
import subprocess
import sys
import textwrap
import time
import tomllib
from pathlib import Path

import pytest

from keybrake import credentials
from keybrake.config.credential_locations import places
from keybrake.config.references import Reference
from keybrake.credentials import Credential, Credentials, SourceFailed
from keybrake.credentials.source import source
from keybrake.errors import CredentialError
from tests.credentials._servers import VAULT, HttpServer, onepassword_core

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
TOKEN = "ops_hunter2"
PAGE = Path(__file__).parents[2] / "docs/how-to/onepassword.md"


@pytest.fixture
def core(monkeypatch):
    """Replace only the native library of the package with a stand-in."""
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", TOKEN)
    with onepassword_core(monkeypatch) as running:
        running.kept["op://agents/stripe/key"] = SECRET
        yield running


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Put a script ``op`` on the path; its output shows that it was called."""
    script = tmp_path / "op"
    script.write_text('#!/bin/sh\nprintf "%s by command" "$3"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def fetch(path="agents/stripe/key", **facts):
    """Return a secret through the 1Password source."""
    return source("op").fetch(Reference("op", path, **facts))


def token(address):
    """Return a well-formed token for an account at *address*, where there is no account."""
    key = {"alg": "A256GCM", "ext": True, "kty": "oct", "kid": "mp"}
    content = {
        "signInAddress": address,
        "userAuth": {
            "method": "SRPg-4096",
            "alg": "PBES2g-HS256",
            "iterations": 1,
            "salt": "c2FsdA",
        },
        "email": "nobody@example.com",
        "srpX": "ab" * 32,
        "muk": {**key, "k": "a" * 43, "key_ops": ["encrypt", "decrypt"]},
        "secretKey": "A3-ABCDEF-ABCDEF-ABCDE-ABCDE-ABCDE-ABCDE",
        "throttleSecret": {"seed": "ab" * 32, "uuid": "A" * 26},
        "deviceUuid": "a" * 26,
    }
    return "ops_" + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


# With the real package and its native library


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("hunter2", "service account token had invalid format"),
        ("ops_hunter2", "base64 decoding failed"),
        ("ops_eyJhIjoxfQ", "deserialization failed"),
    ],
)
def test_an_invalid_token_is_reported(monkeypatch, written, why):
    """The error has the package's message, but not the token."""
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", written)
    with pytest.raises(SourceFailed, match=f"was not returned: .*{why}") as refused:
        fetch()
    assert written not in str(refused.value)


def test_a_server_that_is_down_is_reported(monkeypatch):
    """The error of the package's real client has the reference, and no part of the token."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        written = token(f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", written)
        known = Credentials({"stripe": {"secret": Reference("op", "agents/stripe/key")}}, 60)
        began = time.monotonic()
        with pytest.raises(CredentialError) as refused:
            known.get("stripe")
    assert time.monotonic() - began < 10
    said = str(refused.value)
    assert said.startswith("credentials.stripe: op://agents/stripe/key was not returned: auth")
    assert written not in said
    assert "hunter2" not in said


def test_a_silent_server_times_out(monkeypatch):
    """A server that accepts the connection of the real client but never answers is given up."""
    monkeypatch.setattr("keybrake.credentials.service_account._TIMEOUT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", token(address))
        began = time.monotonic()
        with pytest.raises(SourceFailed, match=r"1Password did not answer within 0.5 s"):
            fetch()
        assert time.monotonic() - began < 10
        silent.settimeout(5)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1) == b"\x16"  # the client has sent a TLS handshake


def test_a_forked_process_gets_an_error_at_once(tmp_path):
    """The package's threads do not survive a fork, so a request would never return."""
    script = textwrap.dedent("""
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from keybrake.config.references import Reference
        from keybrake.credentials import SourceFailed
        from keybrake.credentials.source import source

        def why():
            try:
                source("op").fetch(Reference("op", "a/b/c"))
            except SourceFailed as error:
                return str(error)

        print(why(), flush=True)
        child = os.fork()
        if child == 0:
            print(why(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"OP_SERVICE_ACCOUNT_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    parent, child = ran.stdout.splitlines()
    assert "base64 decoding failed" in parent
    assert "forked from one that had asked 1Password" in child


# With the package's Python code, and a stand-in for its native library: see ``OnePasswordCore``


def test_a_secret_is_read_and_the_client_released(core):
    """The package gets the reference in 1Password's notation, and its client is freed."""
    assert fetch() == SECRET
    assert (core.accounts, core.released) == ([TOKEN], 1)
    core.kept["op://agents/my item/key?attribute=otp"] = "123456"
    assert fetch("agents/my item/key", params=(("attribute", "otp"),)) == "123456"
    core.kept["op://agents/stripe/key"] = '{"api_key": "in JSON"}'
    assert fetch(keys=("api_key",)) == "in JSON"


def test_a_changed_token_is_used(core, monkeypatch):
    """A new token in the environment needs no restart."""
    fetch()
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", "ops_another")
    fetch()
    assert core.accounts == [TOKEN, "ops_another"]


def test_a_missing_secret_is_reported(core):
    """The error has the package's message, and the client is freed."""
    with pytest.raises(SourceFailed, match="was not returned: no item matched the reference"):
        fetch("agents/none/key")
    assert core.released == 1


@pytest.mark.parametrize(
    ("words", "shown"), [(f"no account has {TOKEN}", "Exception"), ("x" * 500, "x" * 200 + "…")]
)
def test_a_message_is_cut_and_has_no_token(core, words, shown):
    """A message with the token is replaced by the error class, and a long one is cut."""
    core.refuses = words
    with pytest.raises(SourceFailed) as refused:
        fetch()
    assert str(refused.value) == f"was not returned: {shown}"


def test_an_answer_that_is_not_text_is_not_repeated(core):
    """The validation error quotes the answer, so keybrake shows only its class."""
    core.kept["op://agents/stripe/key"] = [SECRET]
    with pytest.raises(SourceFailed, match="was not returned: ValidationError") as refused:
        fetch()
    assert SECRET not in str(refused.value)


def test_a_running_event_loop_is_no_problem(core):
    """A secret can be read in a thread whose event loop is running."""

    async def agent() -> str:
        return fetch()

    assert asyncio.run(agent()) == SECRET


# The package or the command


def test_without_a_token_the_command_runs(core, command, monkeypatch):
    """The op command uses the account that is signed in there."""
    monkeypatch.delenv("OP_SERVICE_ACCOUNT_TOKEN")
    assert fetch() == "op://agents/stripe/key by command"
    assert core.accounts == []


def test_without_the_package_the_command_runs(command, monkeypatch):
    """The op command reads the same variable, and without it the error names command and extra."""
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", TOKEN)
    monkeypatch.setitem(sys.modules, "onepassword", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "keybrake.credentials.service_account", raising=False)
    monkeypatch.delattr(credentials, "service_account", raising=False)
    assert fetch() == "op://agents/stripe/key by command"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceFailed, match=r"no command op; .*keybrake\[onepassword\]") as refused:
        fetch()
    assert TOKEN not in str(refused.value)


def test_the_page_is_true(core, monkeypatch):
    """What docs/how-to/onepassword.md has in keybrake.toml finds what it says it finds."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    account, connect = (tomllib.loads(written)["credentials"] for written in blocks)
    core.kept |= {
        "op://agents/twilio/sid": "AC1",
        "op://agents/twilio/token": "t",
        "op://agents/resend/live/key": "re_1",
    }
    known = Credentials(places(account, "credentials")[0], 60)
    assert known.get("stripe") == Credential(SECRET)
    assert known.get("twilio") == Credential("t", "AC1")
    assert known.get("resend") == Credential("re_1")
    server = HttpServer()
    try:
        monkeypatch.setenv("OP_CONNECT_HOST", server.url)
        monkeypatch.setenv("OP_CONNECT_TOKEN", "hunter2")
        server.keep(SECRET)
        other = "o" * 26
        server.answers |= {
            f'/v1/vaults/{VAULT}/items title eq "resend"': (200, [{"id": other}]),
            f"/v1/vaults/{VAULT}/items/{other}": (
                200,
                {"fields": [{"label": "key", "value": "re_1"}]},
            ),
        }
        known = Credentials(places(connect, "credentials")[0], 60)
        assert known.get("stripe") == Credential(SECRET)
        assert known.get("resend") == Credential("re_1")
    finally:
        server.stop()
