"""Does ``keybrake demo`` show the whole point in a few seconds, without network or account."""

import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import keybrake

LIMIT_S = 30  # it takes 3; a machine that runs other tests beside it is slow, not wrong


def test_it_can_be_seen_again_on_the_same_ledger(cli, tmp_path):
    """What was played before is left alone; what a configuration says of refunds does not matter."""
    (tmp_path / "keybrake.toml").write_text('[money]\nrefunds = "ignore"\n')
    for _ in range(2):
        told = cli("--ledger", "sqlite:///demo.db", "demo")
        assert (told.code, told.err) == (0, "")
    assert "The ledger counts the same, to the cent." in told.out


def test_it_charges_no_run_of_the_users(cli, ledger_url):
    """Under a vault key its fake money would count in a real run."""
    key = keybrake.issue_vault_key("real", cap=500)
    told = cli("demo", KEYBRAKE_VAULT_KEY=str(key), KEYBRAKE_LEDGER=ledger_url)
    assert (told.code, told.out) == (1, "")
    assert "charged to the run of KEYBRAKE_VAULT_KEY; unset that" in told.err
    assert [run.calls for run in keybrake.open_ledger(ledger_url).runs()] == [0]


def test_what_came_of_it_as_json(cli):
    """A script that tries keybrake out has one object to read, and no show."""
    told = cli("--ledger", "sqlite:///demo.db", "demo", "--json")
    assert (told.code, told.err) == (0, "")
    assert told.json["ledger"] == "sqlite:///demo.db"
    spent = {run["label"]: run["spent_micros"] for run in told.json["runs"]}
    assert spent["invoice-agent"] == 179_940_000


def test_the_demo_stops_what_it_should(cli, tmp_path):
    """The runaway agent is stopped at its cap, the other by a revoke, and the vendor agrees."""
    begun = time.monotonic()
    told = cli("--ledger", "sqlite:///demo.db", "demo", HTTPS_PROXY="http://127.0.0.1:9")
    took_s = time.monotonic() - begun

    assert (told.code, told.err) == (0, "")
    assert took_s < LIMIT_S
    assert "\x1b" not in told.out
    assert told.out.count("charge $29.99, attempt") == 7
    assert "attempt 7          REFUSED  only $20.06 of $200 is left" in told.out
    assert "Stripe's own journal counts 6 charges, $179.94" in told.out
    assert "is revoked (refund-agent)" in told.out
    assert "REFUSED  the run was revoked" in told.out
    assert "REFUSED  only $0.0076 of $0.10 is left" in told.out
    assert "journals have 6 texts and 6 emails: $0.0924 of $0.10" in told.out
    assert "UNKNOWN  spent $0.00, reserved $19.00" in told.out
    assert "renewal-agent: spent $19.00, reserved $0.00" in told.out
    assert "SELECT label, spent_usd FROM spend_by_run" in told.out
    assert "The ledger counts the same, to the cent." in told.out
    with closing(sqlite3.connect(tmp_path / "demo.db")) as connection:
        spent = dict(connection.execute("SELECT label, spent_usd FROM spend_by_run").fetchall())
    assert spent["invoice-agent"] == 179.94
    assert spent["refund-agent"] > 0
    assert (spent["concierge"], spent["renewal-agent"]) == (0.0924, 19)

    # Then: the honest agent, in a run of its own, goes on after the other is stopped.
    after = told.out[told.out.index("the run was revoked") :]
    assert after[: after.index("── 3")].count("for an order") >= 2


def test_without_a_ledger_it_names_a_new_one(cli, tmp_path):
    """It writes to a new ledger in a temporary folder, which it names, and nowhere else."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    told = cli("demo", TMPDIR=str(temporary))

    file = next(temporary.glob("keybrake-demo-*/ledger.db"))
    assert f"keybrake --ledger sqlite:///{file} runs" in told.out
    assert list(tmp_path.iterdir()) == [temporary]


def test_at_a_terminal_it_is_in_colour_and_in_time(at_terminal):
    """A person gets colours, a pace to follow and the same end, within the time."""
    begun = time.monotonic()
    told = at_terminal("--ledger", "sqlite:///demo.db", "demo", columns=100)

    assert told.code == 0
    assert time.monotonic() - begun < LIMIT_S
    assert "\x1b[" in told.out
    assert "The ledger counts the same, to the cent." in told.out


def test_on_a_ledger_in_use_it_shows_its_own_calls(cli, tmp_path, books):
    """On a ledger that has calls of others, the demo shows and counts what it did itself."""
    shutil.copy(books.path, tmp_path / "demo.db")
    shutil.copy(f"{books.path}.seal", tmp_path / "demo.db.seal")

    told = cli("demo", KEYBRAKE_LEDGER="sqlite:///demo.db")

    assert told.code == 0
    assert told.out.count("cap_exceeded") == 2


@pytest.mark.parametrize("words", [["demo"], ["--ledger", "sqlite:///x.db", "demo"]])
def test_without_an_sdk_it_says_what_to_install(start, tmp_path, words):
    """Where an SDK is missing, one line names the extra to install."""
    hide = "import sys; sys.modules['twilio'] = None; sys.argv = ['keybrake', *sys.argv[1:]]; "
    run = "from keybrake.cli import main; main()"
    process = start(argv=[sys.executable, "-c", hide + run, *words])

    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "pip install 'keybrake[vendors]'" in err
    assert not Path(tmp_path / "x.db").exists()
