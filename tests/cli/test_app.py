"""Does every command line end as it should: with its status, in one line, without a traceback."""

import shutil
import signal
import sqlite3
import sys

import pytest
from click.testing import CliRunner

import keybrake
from keybrake.cli.app import app

READS = (
    ["runs"],
    ["runs", "--json"],
    ["show", "run_1"],
    ["log"],
    ["log", "--follow"],
    ["spend", "--by", "day"],
    ["export", "--jsonl"],
    ["revoke", "run_1"],
    ["resume", "run_1"],
)


def one_line(told, code):
    """Return the only line a failed command wrote."""
    assert (told.code, told.out) == (code, "")
    assert told.err.startswith("keybrake: ")
    assert told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("name", sorted(app.commands))
def test_every_command_has_help_with_an_example(name):
    """Each command explains itself and shows how it is typed."""
    told = CliRunner().invoke(app, [name, "--help"], prog_name="keybrake")

    assert told.exit_code == 0
    assert f"Example: keybrake {name}" in told.output


def test_the_commands_of_this_version_are_there():
    """The commands are these, in the order in which a reader needs them."""
    assert " ".join(app.commands) == (
        "demo init exec runs show log spend key revoke pause resume unresolved resolve reconcile prices "
        "policy verify doctor export"
    )


def test_version_and_bare_command(cli):
    """The version is told, and without a command there is help, with completion and statuses."""
    assert cli("--version").out == f"keybrake {keybrake.__version__}\n"

    told = cli()

    assert told.code == 0
    assert "_KEYBRAKE_COMPLETE" in told.out
    assert "Exit status: 0 done, 1 failed, 2 used wrongly, 3 found something wrong" in told.out


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["--bogus", "runs"],
        ["runs", "--state", "asleep"],
        ["runs", "--limit", "-1"],
        ["log", "--limit", "many"],
        ["log", "--state", "lost"],
        ["log", "--endpoint", "no pattern"],
        ["spend", "--by", "moon"],
        ["show"],
        ["revoke"],
        ["export", "--output"],
        ["runs", "extra\x1b[31m\n"],
        ["--ledger", "mysql://x", "runs"],
        ["--ledger", "sqlite://", "revoke", "run_1"],
        ["--ledger", "", "log"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(quick, words):
    """Arguments that cannot be meant end with one harmless line that points to the help."""
    line = one_line(quick(*words), 2)

    assert "--help)" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_reading_makes_no_ledger(quick, tmp_path, words):
    """Where there is no ledger, a command says so and leaves the folder as it was."""
    line = one_line(quick("--ledger", "sqlite:///none/ledger.db", *words), 1)

    assert "no ledger at" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "database", "empty", "folder", "link", "below", "cut"])
@pytest.mark.parametrize("words", [["runs"], ["revoke", "run_1"]], ids=" ".join)
def test_a_bad_ledger_is_one_line_and_stays_as_it_was(quick, tmp_path, books, kind, words):
    """A file that is no ledger, or a damaged one, is told in one line and not touched."""
    path = tmp_path / "bad.db"
    if kind == "text":
        path.write_text("not a database at all\n" * 100)
    elif kind == "database":
        sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(books.path)
    elif kind == "below":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "bad.db"
    else:
        path.write_bytes(books.path.read_bytes()[:4096])
    before = path.read_bytes() if path.is_file() else None

    one_line(quick("--ledger", f"sqlite:///{path}", *words), 1)

    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_ledger_of_a_newer_version_is_not_guessed_at(quick, tmp_path, books):
    """A ledger with a schema this version does not know is refused by its number."""
    path = tmp_path / "newer.db"
    shutil.copy(books.path, path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=999")
    connection.close()

    assert "newer keybrake (schema 999" in one_line(
        quick("--ledger", f"sqlite:///{path}", "runs"), 1
    )


def test_a_broken_config_is_one_line(cli, tmp_path):
    """A key that keybrake.toml may not have, and a KEYBRAKE_CONFIG that names no file, are told."""
    (tmp_path / "keybrake.toml").write_text("legder = 'sqlite:///x.db'\n")

    assert "unknown key 'legder'" in one_line(cli("runs"), 1)
    assert "is no file" in one_line(cli("runs", KEYBRAKE_CONFIG="missing.toml"), 1)


def test_the_option_wins_over_environment_and_config(cli, tmp_path, books):
    """The ledger is that of --ledger, else of KEYBRAKE_LEDGER, else of keybrake.toml."""
    (tmp_path / "keybrake.toml").write_text(f"ledger = '{books.url}'\n")

    assert cli("runs").code == 0
    assert cli("runs", KEYBRAKE_LEDGER="sqlite:///env.db").code == 1
    assert cli("--ledger", books.url, "runs", KEYBRAKE_LEDGER="sqlite:///env.db").code == 0


def test_a_ledger_that_is_being_written_to_can_be_read(quick, books):
    """Somebody who holds the ledger's write lock holds up nobody who reads."""
    writer = sqlite3.connect(books.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    assert quick("--ledger", books.url, "runs").code == 0

    writer.execute("ROLLBACK")
    writer.close()


@pytest.mark.parametrize("words", [["log"], ["log", "--json"], ["export"]], ids=" ".join)
def test_a_closed_pipe_is_no_error(start, tmp_path, words):
    """A reader that leaves early ends the command quietly."""
    url = _long_ledger(tmp_path)
    process = start("--ledger", url, *words)

    process.stdout.readline()
    process.stdout.close()

    assert process.stderr.read() == ""
    assert process.wait() == 0


def _long_ledger(tmp_path):
    url = f"sqlite:///{tmp_path / 'long.db'}"
    keybrake.open_ledger(url)
    with sqlite3.connect(tmp_path / "long.db") as connection:
        connection.executemany(
            "INSERT INTO call (uid, at, scopes, vendor, endpoint, method, path, origin, account, owner, "
            "state, reserved) VALUES (?, 1763900000000000, '[]', 'stripe', 'stripe.charges.list', "
            "'GET', '/v1/charges', 'https://api.stripe.com', '', '', 'settled', 0)",
            [(f"u{number}",) for number in range(5000)],
        )
    connection.close()
    return url


def test_a_closed_stdout_is_no_traceback(start, books):
    """A command that was given no standard output writes to nobody, and is done."""
    runs = [sys.executable, "-m", "keybrake", "--ledger", books.url, "runs"]
    process = start(argv=["sh", "-c", 'exec "$@" >&-', "sh", *runs])

    assert (process.wait(), process.stderr.read()) == (0, "")


def test_a_full_disk_is_one_line(start, books):
    """Output that cannot be written is a failure that is told, not one that is lost."""
    log = [sys.executable, "-m", "keybrake", "--ledger", books.url, "log"]
    process = start(argv=["sh", "-c", 'exec "$@" >/dev/full', "sh", *log])

    assert process.wait() == 1
    assert process.stderr.read() == "keybrake: No space left on device\n"


def test_ctrl_c_is_quiet(start, books):
    """An interrupt ends a command with 130 and without a word."""
    process = start("--ledger", books.url, "log", "--follow", "--json", "--limit", "1")
    process.stdout.readline()

    process.send_signal(signal.SIGINT)

    assert process.wait() == 130
    assert process.stderr.read() == ""


def test_a_shell_completes_commands_and_runs(cli, books):
    """Completion knows the commands, and harmless ids and labels of runs that could still call."""
    asked = {"_KEYBRAKE_COMPLETE": "bash_complete", "COMP_CWORD": "1"}

    assert "plain,revoke" in cli(COMP_WORDS="keybrake rev", **asked).out

    asked["COMP_CWORD"] = "2"
    runs = cli(COMP_WORDS="keybrake revoke run_", KEYBRAKE_LEDGER=books.url, **asked).out

    assert books.ids["open"] in runs
    assert books.ids["revoked"] not in runs
    assert (
        "plain,paused"
        in cli(COMP_WORDS="keybrake resume pa", KEYBRAKE_LEDGER=books.url, **asked).out
    )
    everything = cli(COMP_WORDS="keybrake show ", KEYBRAKE_LEDGER=books.url, **asked).out
    assert not set(everything) & set("\x1b=[\u202e\0")
    assert cli(COMP_WORDS="keybrake show ", KEYBRAKE_LEDGER="x", **asked).out.strip() == ""


def test_letters_the_terminal_lacks_are_escaped(process, ledger_url):
    """An output encoding that cannot show a letter gets an escape in its place."""
    keybrake.issue_vault_key("Zürich", cap=1)

    told = process("--ledger", ledger_url, "runs", PYTHONIOENCODING="ascii")

    assert told.code == 0
    assert "Z\\xfcrich" in told.out


@pytest.mark.parametrize(
    "words",
    [
        ["sk_live_4eC39HqLyjWDarjt"],
        ["runs", "sk_live_4eC39HqLyjWDarjt"],
        ["exec", "--cap", "5", "--sk_live_4eC39HqLyjWDarjt"],
        ["runs", "x" * 5000, "sk_live_4eC39HqLyjWDarjt"],
    ],
)
def test_what_was_used_wrongly_is_not_repeated_whole(quick, words):
    """A key that was pasted into the wrong place is not shown again, and nothing fills the screen."""
    told = quick(*words)
    assert (told.code, told.out) == (2, "")
    assert "4eC39" not in told.err
    assert told.err.endswith("--help)\n")
    assert len(told.err) < 600
