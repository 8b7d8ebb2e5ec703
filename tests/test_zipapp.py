"""Does keybrake work out of a zip: its data files are found, and its runs hold their caps."""

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

import keybrake

MAIN = """
import stripe, keybrake, sys
from keybrake.vendors import VENDORS
assert ".pyz" in keybrake.__file__
assert all(VENDORS[name].endpoints() for name in ("stripe", "twilio", "resend"))
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_1", 0
with keybrake.run("agent", cap=7, ledger=sys.argv[2]) as run:
    stripe.PaymentIntent.create(amount=300, currency="usd")
    try:
        stripe.PaymentIntent.create(amount=500, currency="usd")
    except keybrake.CapExceeded:
        print("refused", run.spent)
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Pack keybrake and a program into one file, as zipapp and shiv do."""
    folder = tmp_path_factory.mktemp("packed")
    source = Path(keybrake.__file__).parent
    shutil.copytree(
        source, folder / "app" / "keybrake", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "app" / "__main__.py").write_text(MAIN)
    zipapp.create_archive(folder / "app", folder / "agent.pyz")
    return folder / "agent.pyz"


def run(packed, folder, *words, **changes):
    """Run Python on the packed file, in a folder where no other keybrake is on the path."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=folder,
        env={**environ, **changes},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_packed_program_is_guarded(packed, fake, ledger_url, tmp_path):
    """The tables, the prices and the ledger's schema are read out of the zip."""
    done = run(packed, tmp_path, str(packed), fake.url, ledger_url)

    assert done.stdout == "refused 3.00\n", done.stderr


def test_the_command_line_of_a_packed_keybrake(packed, ledger_url, tmp_path):
    """Commands that read data files find them in the zip."""
    for words in (["init"], ["prices"], ["doctor"], ["runs"]):
        program = (
            "import sys; from keybrake.cli import app as _app; sys.exit(_app.run(sys.argv[1:]))"
        )
        changes = {"PYTHONPATH": str(packed), "KEYBRAKE_LEDGER": ledger_url}
        done = run(packed, tmp_path, "-c", program, *words, **changes)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1, 3), (words, done.stdout, done.stderr)
    assert (tmp_path / "keybrake.toml").is_file()
