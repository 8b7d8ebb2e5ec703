"""Does a 1Password service account get its secrets by the package, and by the command without it?"""

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
    """Put a stand-in in the place of the package's native library, and of nothing else."""
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", TOKEN)
    with onepassword_core(monkeypatch) as running:
        running.kept["op://agents/stripe/key"] = SECRET
        yield running


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Put a command ``op`` on the path that says by its output that it was asked."""
    script = tmp_path / "op"
    script.write_text('#!/bin/sh\nprintf "%s by command" "$3"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def fetch(path="agents/stripe/key", **facts):
    """Return what 1Password gives."""
    return source("op").fetch(Reference("op", path, **facts))


def token(address):
    """Return a token of the right shape for an account at *address*, where nobody has one."""
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


# The whole of the real package


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("hunter2", "service account token had invalid format"),
        ("ops_hunter2", "base64 decoding failed"),
        ("ops_eyJhIjoxfQ", "deserialization failed"),
    ],
)
def test_a_token_that_is_none_is_said(monkeypatch, written, why):
    """In the package's own words, without the token."""
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", written)
    with pytest.raises(SourceFailed, match=f"was not returned: .*{why}") as refused:
        fetch()
    assert written not in str(refused.value)


def test_a_server_that_is_down_is_said(monkeypatch):
    """With the reference, and with nothing of the token; the package's own client asks for it."""
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


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch):
    """The package's own client has connected, and no answer ever comes."""
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
            assert connection.recv(1) == b"\x16"  # it began to speak TLS


def test_a_forked_process_is_told_at_once(tmp_path):
    """The package's threads did not come with it, so it would wait for ever."""
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


# The package's Python upon a stand-in for its native library: see ``OnePasswordCore``


def test_a_secret(core):
    """The reference goes there as 1Password writes it, and the account is let go of."""
    assert fetch() == SECRET
    assert (core.accounts, core.released) == ([TOKEN], 1)
    core.kept["op://agents/my item/key?attribute=otp"] = "123456"
    assert fetch("agents/my item/key", params=(("attribute", "otp"),)) == "123456"
    core.kept["op://agents/stripe/key"] = '{"api_key": "in JSON"}'
    assert fetch(keys=("api_key",)) == "in JSON"


def test_a_token_that_was_changed_is_taken(core, monkeypatch):
    """Without a restart."""
    fetch()
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", "ops_another")
    fetch()
    assert core.accounts == [TOKEN, "ops_another"]


def test_what_is_not_there_is_said(core):
    """In the package's own words; the account is let go of all the same."""
    with pytest.raises(SourceFailed, match="was not returned: no item matched the reference"):
        fetch("agents/none/key")
    assert core.released == 1


@pytest.mark.parametrize(
    ("words", "shown"), [(f"no account has {TOKEN}", "Exception"), ("x" * 500, "x" * 200 + "…")]
)
def test_words_that_say_too_much_are_not_repeated(core, words, shown):
    """The token is not in them, and they end somewhere."""
    core.refuses = words
    with pytest.raises(SourceFailed) as refused:
        fetch()
    assert str(refused.value) == f"was not returned: {shown}"


def test_an_answer_that_is_no_text_is_not_repeated(core):
    """The error about it quotes it, and is not passed on."""
    core.kept["op://agents/stripe/key"] = [SECRET]
    with pytest.raises(SourceFailed, match="was not returned: ValidationError") as refused:
        fetch()
    assert SECRET not in str(refused.value)


def test_an_event_loop_may_be_running(core):
    """In the thread that asks, as in an agent's own."""

    async def agent() -> str:
        return fetch()

    assert asyncio.run(agent()) == SECRET


# Which of the two is asked


def test_without_a_token_the_command_is_asked(core, command, monkeypatch):
    """As whoever is signed in there."""
    monkeypatch.delenv("OP_SERVICE_ACCOUNT_TOKEN")
    assert fetch() == "op://agents/stripe/key by command"
    assert core.accounts == []


def test_without_the_package_the_command_is_asked(command, monkeypatch):
    """It knows the same variable; if it is not there either, both are named."""
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
