"""Credentials are fetched at start in a process under a vault key, and only there."""

import os
import subprocess
import sys

import pytest

import keybrake

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
BEGIN = """
import logging, os, pathlib
import keybrake
from keybrake import credentials
logging.basicConfig(format="%(name)s %(message)s")
asked = lambda: pathlib.Path("asked").read_text().count("x") if os.path.exists("asked") else 0
"""


@pytest.fixture
def python(tmp_path, ledger_url):
    """Return a function that runs a script, by default under a vault key, and returns its output."""
    (tmp_path / "get").write_text(f"#!/bin/sh\nprintf x >>{tmp_path}/asked\nprintf {SECRET}\n")
    (tmp_path / "get").chmod(0o700)
    (tmp_path / "keybrake.toml").write_text(
        f'ledger = "{ledger_url}"\n[credentials]\nstripe = "exec://{tmp_path}/get"\n'
    )
    key = keybrake.issue_vault_key("worker", cap=5)

    def run(script, **changes):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ = {**kept, "KEYBRAKE_VAULT_KEY": str(key), **changes}
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + script],
            cwd=tmp_path,
            env={name: value for name, value in environ.items() if value is not None},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    return run


def test_the_credential_is_fetched_once_at_start(python, tmp_path):
    """Repeated installs fetch nothing, and the source may go away while the credential is cached."""
    out, err = python("""
keybrake.install(); print(asked())
keybrake.install()
with keybrake.run("inner", cap=1): pass
os.unlink("get")
print(len(credentials.current().get("stripe").secret), asked())
""")
    assert (out, err) == (["1", str(len(SECRET)), "1"], "")


def test_a_source_that_is_down_is_logged_at_start(python, tmp_path):
    """The program starts all the same, because the source may be back when a call needs it."""
    script = (tmp_path / "get").read_text()
    (tmp_path / "get").write_text("#!/bin/sh\nexit 3\n")
    out, err = python(
        f"""
keybrake.install()
pathlib.Path("get").write_text({script!r})
import time; time.sleep(1.1)
print(len(credentials.current().get("stripe").secret))
"""
    )
    assert out == [str(len(SECRET))]
    assert f"keybrake credentials.stripe: exec://{tmp_path}/get ended with exit code 3" in err
    assert "; calls that need it are refused until it can be had" in err


def test_the_event_loop_is_not_blocked_by_the_fetch(python, tmp_path):
    """The credential is fetched in a thread beside the loop, and only once."""
    slow = (tmp_path / "get").read_text().replace("#!/bin/sh\n", "#!/bin/sh\nsleep 1\n")
    (tmp_path / "get").write_text(slow)
    out, err = python("""
import asyncio, time
async def main():
    began = time.monotonic()
    async with keybrake.run("inner", cap=1):
        print(time.monotonic() - began < 0.8, asked())
    print(len((await asyncio.to_thread(credentials.current().get, "stripe")).secret), asked())
asyncio.run(main())
""")
    assert (out, err) == (["True", "0", "32", "1"], "")


@pytest.mark.parametrize(
    "script",
    [
        "keybrake.install(); print(asked())",
        "keybrake.issue_vault_key('s', cap=1); print(asked())",
        "os.environ['KEYBRAKE_VAULT_KEY'] = keybrake.issue_vault_key('s', cap=1)\nkeybrake.install(); print(asked())",
    ],
)
def test_a_process_without_a_vault_key_fetches_nothing(python, script):
    """A process that issues keys, or calls with raw keys, contacts no source at start."""
    assert python(script, KEYBRAKE_VAULT_KEY=None)[0] == ["0"]


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "is empty"), ("kb_live_x", "is not one that keybrake made"), (None, "is not known to")],
)
def test_an_invalid_vault_key_is_reported_with_its_variable(python, key, told, tmp_path):
    """The error names the variable, so that a person can find the wrong key."""
    script = """
import stripe
keybrake.install()
try: stripe.PaymentIntent.create(amount=1, currency="usd")
except keybrake.CredentialUnavailable as refusal: print(refusal)
"""
    changes = {} if key is None else {"KEYBRAKE_VAULT_KEY": key}
    if key is None:
        changes["KEYBRAKE_LEDGER"] = f"sqlite:///{tmp_path}/other.db"
    out, _ = python(script, **changes)
    assert f"The vault key in KEYBRAKE_VAULT_KEY {told}" in " ".join(out)
