"""Does ``keybrake doctor`` find what is wrong, and only that."""

import fcntl
import os
import shutil
import sqlite3
import time

import pytest


@pytest.fixture
def copy(tmp_path, books):
    """Copy the ledger to where a test may harm it."""
    path = tmp_path / "ledger.db"
    shutil.copy(books.path, path)
    path.chmod(0o600)
    return path


@pytest.fixture
def doctor(cli, copy):
    """Return a function that asks the doctor about the copy."""
    return lambda *options, **changes: cli(
        "--ledger", f"sqlite:///{copy}", "doctor", *options, **changes
    )


def wrong(told):
    """Return what is wrong, by check; the status has to agree."""
    found = {c["check"]: c["detail"] for c in told.json["checks"] if c["verdict"] == "wrong"}
    assert told.json["ok"] is not bool(found)
    assert told.code == (3 if found else 0)
    return found


def test_a_sound_ledger_is_fine(doctor, copy):
    """All is in place: status 0, and every part was looked at."""
    told = doctor("--json")

    checks = {check["check"]: check["detail"] for check in told.json["checks"]}
    assert wrong(told) == {}
    assert set(checks) >= {
        "python",
        "sqlite",
        "config",
        "ledger",
        "clock",
        "rights",
        "lock",
        "stripe",
        "hooks",
    }
    assert f"{copy}, application id 0x6b627231, schema 1, calls: 13" in checks["ledger"]
    assert "supported (>=8,<17)" in checks["stripe"]
    assert "stripe._api_requestor._APIRequestor.request_raw," in checks["hooks"]


def test_people_read_a_list(doctor, cli):
    """A person gets one line a check and a verdict at the end."""
    told = doctor()

    assert told.out.splitlines()[-1] == "everything is in place"
    assert "\x1b" not in told.out


def test_no_ledger_yet_is_fine_and_stays_so(cli, tmp_path):
    """Before the first run nothing is wrong, and the doctor makes nothing."""
    told = cli("doctor", "--json")

    assert wrong(told) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "empty", "folder", "link", "damaged"])
def test_a_ledger_that_cannot_be_used_is_found(doctor, copy, kind):
    """Whatever is wrong with the file is a finding, and all other checks are still made."""
    data = copy.read_bytes()
    copy.unlink()
    {
        "text": lambda: copy.write_text("hello " * 1000),
        "empty": copy.touch,
        "folder": copy.mkdir,
        "link": lambda: copy.symlink_to("elsewhere"),
        "damaged": lambda: copy.write_bytes(data[:4096] + b"\xff" * 4096 + data[8192:]),
    }[kind]()

    told = doctor("--json")

    assert "ledger" in wrong(told)
    assert told.json["checks"][-1]["check"] == "hooks"


def test_a_place_where_no_ledger_can_be_made_is_found(cli, tmp_path):
    """A ledger below something that is no folder cannot be made."""
    (tmp_path / "file").touch()

    told = cli("--ledger", f"sqlite:///{tmp_path}/file/ledger.db", "doctor", "--json")

    assert "cannot be made" in wrong(told)["ledger"]


def test_rights_of_others_are_found(doctor, copy):
    """A ledger that others may read is a finding that names the remedy."""
    copy.chmod(0o644)

    assert "chmod 600" in wrong(doctor("--json"))["rights"]


def test_a_held_lock_is_found_with_its_holder(doctor, copy):
    """A lock that stays held is a finding that names the process, where the system tells."""
    file = copy.with_name(f"{copy.name}.lock")
    file.touch(mode=0o600)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert f"process {os.getpid()} " in wrong(doctor("--json"))["lock"]


def test_a_clock_behind_the_ledger_is_found(doctor, copy):
    """A newest call from the future means that the clock is wrong."""
    with sqlite3.connect(copy) as connection:
        connection.execute("DROP TRIGGER call_ends_once")
        future = (time.time_ns() // 1000) + 3_600_000_000
        connection.execute("UPDATE call SET at = ? WHERE seq = 13", (future,))
    connection.close()

    assert "in the future" in wrong(doctor("--json"))["clock"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lock_timout = 3", "unknown key 'lock_timout'"),
        ("[policies.x]\ncap = -1", "policies.x: cap=-1 is negative"),
        ('[policies.x]\ncap = 1\nallow = ["stripe.refunds.crate"]', "did you mean"),
        ("ledger = 'mysql://x'", "mysql"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_wrong_configuration_is_found(cli, tmp_path, text, words):
    """What keybrake.toml cannot mean is a finding, down to the endpoints of its policies."""
    (tmp_path / "keybrake.toml").write_text(text)

    assert words in " ".join(wrong(cli("doctor", "--json")).values())


def test_an_sdk_that_cannot_be_guarded_is_found(cli, tmp_path):
    """A version of the Stripe SDK outside of what is supported is a finding."""
    package = tmp_path / "lib" / "stripe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VERSION = '99.1.0'\n")
    (tmp_path / "lib" / "stripe-99.1.0.dist-info").mkdir()
    (tmp_path / "lib" / "stripe-99.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stripe\nVersion: 99.1.0\n"
    )

    found = wrong(cli("doctor", "--json", PYTHONPATH=str(tmp_path / "lib")))

    assert "install stripe>=8,<17" in found["stripe"]
    assert "99.1.0 cannot be guarded" in found["hooks"]


def test_a_terminal_gets_lines_that_fit(at_terminal, copy):
    """At a terminal long texts go on below themselves."""
    out = at_terminal("--ledger", f"sqlite:///{copy}", "doctor", columns=70, NO_COLOR="1").out

    assert max(map(len, out.splitlines())) <= 70
    assert out.count("\nnote   sqlite") <= 1
