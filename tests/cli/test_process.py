"""Does each command work as a process of its own; the other tests run it within theirs."""

import shutil

import pytest

import keybrake
from keybrake.cli.app import app
from keybrake.ledger.stores.sqlite import seal_file

# A command, its exit status, and what it says on standard output and standard error.
SAYS = {
    "init": ([], 0, "keybrake.toml", ""),
    "runs": ([], 0, "invoice-agent", ""),
    "show": (["invoice-agent"], 0, "cap", ""),
    "log": ([], 0, "stripe.payment_intents.create", ""),
    "spend": (["--by", "tool"], 0, "payer", ""),
    "key": (["issue", "smoke", "--cap", "5"], 0, "kb_live_", "revoke run_"),
    "revoke": (["open"], 0, "revoked", ""),
    "pause": (["open"], 0, "paused", ""),
    "resume": (["paused"], 0, "is open", ""),
    "unresolved": ([], 0, "stripe.payment_intents.create", ""),
    "resolve": (["1", "--nothing"], 1, "", "call 1 has ended already"),
    "reconcile": (["--no-repeat", "--json"], 0, '"unknown"', ""),
    "prices": ([], 0, "resend", ""),
    "policy": (["check"], 1, "", "there is no keybrake.toml"),
    "verify": ([], 0, "events", ""),
    "doctor": ([], 0, "ledger", ""),
    "export": ([], 0, "seq", ""),
}
# Every test of theirs starts processes.
ELSEWHERE = {"demo", "exec"}


def test_every_command_is_tried():
    """No command is left out."""
    assert SAYS.keys() | ELSEWHERE == set(app.commands)


@pytest.mark.parametrize("name", SAYS)
def test_a_command_says_and_ends_the_same_as_a_process(process, cli, books, tmp_path, name):
    """A real process has the exit status and the words that the command has within the tests."""
    words, code, out, err = SAYS[name]
    told = []
    for folder, how in (("one", process), ("two", cli)):
        copy = tmp_path / folder / "ledger.db"
        copy.parent.mkdir()
        for path in (lambda file: file, seal_file.path_of):
            shutil.copy(path(books.path), path(copy))
        copy.chmod(0o600)
        told.append(how("--ledger", f"sqlite:///{copy}", name, *words))
        (tmp_path / "keybrake.toml").unlink(missing_ok=True)
        assert told[-1].code == code, told[-1].err
        assert out in told[-1].out
        assert err in told[-1].err
    assert bool(told[0].err) is bool(told[1].err)


def test_a_process_is_told_its_version(process):
    """``keybrake --version`` reaches the program through Python's own start."""
    assert process("--version").out == f"keybrake {keybrake.__version__}\n"
