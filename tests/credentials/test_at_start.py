"""Is a credential there before the first call, where a process is started to make calls, and only there?"""

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
    """Return a function that runs a script, as a rule under a vault key, and returns what it wrote."""
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


def test_it_is_fetched_when_the_process_begins(python, tmp_path):
    """Once, however often that is said; a place that is gone afterwards does not matter for its time."""
    out, err = python("""
keybrake.install(); print(asked())
keybrake.install()
with keybrake.run("inner", cap=1): pass
os.unlink("get")
print(len(credentials.current().get("stripe").secret), asked())
""")
    assert (out, err) == (["1", str(len(SECRET)), "1"], "")


def test_a_place_that_is_down_is_told_at_once(python, tmp_path):
    """The program begins all the same: the place may be back when it is needed."""
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


def test_an_event_loop_does_not_wait_for_it(python, tmp_path):
    """It is fetched beside the loop, and once."""
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
def test_who_is_under_no_key_never_has_it(python, script):
    """A process that hands out keys, or calls with keys of its own, asks no place for anything."""
    assert python(script, KEYBRAKE_VAULT_KEY=None)[0] == ["0"]


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "is empty"), ("kb_live_x", "is not one that keybrake made"), (None, "is not known to")],
)
def test_a_key_that_is_wrong_is_told_with_its_variable(python, key, told, tmp_path):
    """Whoever set it has to find it again."""
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
