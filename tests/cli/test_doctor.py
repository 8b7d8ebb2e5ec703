"""Does ``keybrake doctor`` find what is wrong, and only that, and put right what it can."""

import fcntl
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

import keybrake
from keybrake.ledger.stores.sqlite import seal_file
from tests.cli.conftest import _everything, command, environment


@pytest.fixture
def copy(tmp_path, books):
    """Copy the ledger, and its seal, to where a test may harm them."""
    path = tmp_path / "ledger.db"
    shutil.copy(books.path, path)
    shutil.copy(seal_file.path_of(books.path), seal_file.path_of(path))
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
        ("not toml", "keybrake.toml:1: cannot be read as TOML"),
    ],
)
def test_a_wrong_configuration_is_found(cli, tmp_path, text, words):
    """What keybrake.toml cannot mean is a finding, down to the endpoints of its policies."""
    (tmp_path / "keybrake.toml").write_text(text)

    assert words in " ".join(wrong(cli("doctor", "--json")).values())


@pytest.mark.parametrize("named", [True, False], ids=["--ledger", "configured"])
def test_a_fault_of_the_configuration_is_told_once(cli, copy, tmp_path, named):
    """Each mistake is one line, with its place; what stumbles over it is not told as another fault."""
    (tmp_path / "keybrake.toml").write_text("lock_timout = 3\n\ndurability = 'x'\n")
    option = ["--ledger", f"sqlite:///{copy}"] if named else []

    told = cli(*option, "doctor")

    assert told.code == 3
    assert [line for line in told.out.splitlines() if line.startswith("WRONG")] == [
        f"WRONG  config        keybrake.toml:1: unknown key 'lock_timout'; known are {KNOWN}",
        'WRONG  config        keybrake.toml:3: durability=\'x\' is unknown; write "power" or "process"',
    ]
    assert told.out.count("lock_timout") == 1
    for check in ("ledger    ", "hooks     ", "credential"):
        assert f"note   {check}    not looked at, because the configuration is wrong" in told.out
    assert told.out.endswith("\n2 things wrong\n")


KNOWN = ", ".join(
    sorted(
        [
            *("credentials", "durability", "ledger", "lock_timeout", "money", "policies"),
            *("prices", "proxies", "unguarded", "vendors"),
        ]
    )
)


def test_a_configuration_that_is_not_there_is_told_once(cli):
    """A KEYBRAKE_CONFIG that names no file is one fault."""
    told = cli("doctor", KEYBRAKE_CONFIG="missing.toml")

    assert told.code == 3
    assert told.out.count("missing.toml") == 1


# Credentials

SECRET = "sk_test_s3cr3t"
VARIABLES = (
    *("STRIPE_API_KEY", "STRIPE_SECRET_KEY", "RESEND_API_KEY", "TWILIO_ACCOUNT_SID"),
    *("TWILIO_AUTH_TOKEN", "TWILIO_API_KEY", "TWILIO_API_SECRET"),
)


@pytest.fixture
def ask(cli, process, tmp_path, monkeypatch):
    """Return a function that asks about credentials: verdicts and details, by what is configured."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(table="", **changes):
        (tmp_path / "keybrake.toml").write_text(f"[credentials]\n{table}\n")
        run_it = process if "PYTHONPATH" in changes else cli
        told = run_it("doctor", "--json", **changes)
        assert "s3cr3t" not in told.out + told.err
        found = [c for c in told.json["checks"] if c["check"] == "credential"]
        assert told.code == (3 if any(one["verdict"] == "wrong" for one in found) else 0)
        return [(one["verdict"], one["detail"]) for one in found]

    return run


def test_a_credential_that_can_be_had_is_named_by_its_place(ask, tmp_path):
    """A credential of the configuration is asked for; where it is kept is shown, and how long it took."""
    (tmp_path / "stripe").write_text(SECRET)
    slow = f"exec://sh?args=-c%20'sleep%200.3;echo%20{SECRET[:8]}'"
    told = ask(
        f"stripe = 'file://{tmp_path}/stripe'\n"
        "twilio = { account_sid = 'AC01', auth_token = 'env://TOKEN' }\n"
        f'resend = "{slow}"',
        TOKEN=SECRET,
    )

    assert [verdict for verdict, _ in told] == ["ok"] * 3
    details = [re.fullmatch(r"(.*) \(([0-9,]+) ms\)", detail) for _, detail in told]
    assert [match[1] for match in details] == [
        f"stripe from file://{tmp_path}/stripe",
        "twilio from AC01 and env://TOKEN",
        "resend from exec://sh?…",
    ]
    assert int(details[0][2]) < 300 <= int(details[2][2])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env://MISSING", "env://MISSING is not set in this process's environment"),
        ("file://missing", "file://missing cannot be read: No such file or directory"),
        ("vault://secret/stripe#/api_key", "has no address; set VAULT_ADDR"),
        ("env://TOKEN", "env://TOKEN holds something that is no credential"),
        ("exec://false", "exec://false ended with exit code 1"),
    ],
)
def test_a_credential_that_cannot_be_had_is_wrong(ask, reference, words):
    """It is named with its place, the reason and what to do, and nothing is taken in its stead."""
    told = ask(f'stripe = "{reference}"', STRIPE_API_KEY=SECRET, TOKEN=f"{SECRET}\x01")

    ((verdict, detail),) = told
    assert verdict == "wrong"
    assert detail.startswith("stripe: ")
    assert words in detail
    assert detail.endswith(" ms); mend that, or correct [credentials] in keybrake.toml")


def test_without_a_word_the_variables_of_the_environment_are_looked_at(ask):
    """Where nothing is configured, what is found in the environment is named by its variable."""
    second = {"TWILIO_API_KEY": "SK01", "TWILIO_API_SECRET": SECRET}
    first = {"TWILIO_ACCOUNT_SID": "AC01", "TWILIO_AUTH_TOKEN": SECRET}

    told = ask(STRIPE_SECRET_KEY=SECRET, **second)

    assert [(verdict, detail.rpartition(" (")[0]) for verdict, detail in told] == [
        ("ok", "stripe from env://STRIPE_SECRET_KEY"),
        ("ok", "twilio from env://TWILIO_API_KEY and env://TWILIO_API_SECRET"),
    ]
    ((verdict, detail),) = ask(**first, **second)
    assert verdict == "ok"
    assert detail.startswith("twilio from env://TWILIO_ACCOUNT_SID and env://TWILIO_AUTH_TOKEN (")


def test_what_is_amiss_in_the_environment_is_a_note(ask):
    """Half a credential, or a vault key in its place, may be meant: no call need be made with it."""
    told = ask(TWILIO_ACCOUNT_SID="AC01", STRIPE_API_KEY="kb_live_s3cr3t")

    assert [verdict for verdict, _ in told] == ["note", "note"]
    assert "stripe: env://STRIPE_API_KEY holds something that is no credential" in told[0][1]
    assert "twilio: env://TWILIO_AUTH_TOKEN is not set" in told[1][1]


def test_where_no_credential_is_named_nothing_is_said(ask):
    """An agent that brings its own key needs none here."""
    assert ask() == []


def test_a_source_of_others_that_fails_as_it_likes_is_a_finding(ask, tmp_path):
    """Whatever a source of another package raises is told by its kind, and not by its words."""
    package = tmp_path / "lib"
    (package / "other-1.dist-info").mkdir(parents=True)
    (package / "other-1.dist-info" / "METADATA").write_text("Name: other\nVersion: 1\n")
    (package / "other-1.dist-info" / "entry_points.txt").write_text(
        "[keybrake.credentials]\nother = other:Source\n"
    )
    (package / "other.py").write_text(
        f"class Source:\n    def fetch(self, reference): raise LookupError('{SECRET}')\n"
    )

    ((verdict, detail),) = ask('stripe = "other://place"', PYTHONPATH=str(package))

    assert verdict == "wrong"
    assert "stripe: other://place cannot be read: LookupError in its source (" in detail


def test_an_sdk_that_cannot_be_guarded_is_found(process, tmp_path):
    """A version of the Stripe SDK outside of what is supported is a finding."""
    package = tmp_path / "lib" / "stripe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VERSION = '99.1.0'\n")
    (tmp_path / "lib" / "stripe-99.1.0.dist-info").mkdir()
    (tmp_path / "lib" / "stripe-99.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stripe\nVersion: 99.1.0\n"
    )

    found = wrong(process("doctor", "--json", PYTHONPATH=str(tmp_path / "lib")))

    assert "install stripe>=8,<17" in found["stripe"]
    assert "99.1.0 cannot be guarded" in found["hooks"]


def test_a_terminal_gets_lines_that_fit(at_terminal, copy):
    """At a terminal long texts go on below themselves."""
    out = at_terminal("--ledger", f"sqlite:///{copy}", "doctor", columns=70, NO_COLOR="1").out

    assert max(map(len, out.splitlines())) <= 70
    assert out.count("\nnote   sqlite") <= 1


# What can be put right


def seal_of(path):
    """Return the seal beside a ledger."""
    return seal_file.path_of(path)


def newest(path):
    """Return the id of a ledger, and the number of its newest event."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT uid, (SELECT max(seq) FROM event) FROM ledger").fetchone()


def lost(path):
    """Lose the seal."""
    seal_of(path).unlink()


def torn(path):
    """Leave half a seal."""
    seal_of(path).write_bytes(seal_of(path).read_bytes()[:9])


def of_another(path):
    """Put the seal of another ledger in its place."""
    seal_file.write(path, "0" * 32, 1)


def rolled_back(path):
    """Have the seal know of more than there is."""
    uid, seq = newest(path)
    seal_file.write(path, uid, seq + 5)


SEALS = [
    (lost, "is missing, so nobody can tell"),
    (torn, "cannot be read"),
    (of_another, "belongs to another ledger"),
    (rolled_back, "the ledger is older than its seal"),
]


def can_be_used(path):
    """Return whether a run begins in the ledger; the handle it needs is let go of."""
    url = f"sqlite:///{path}"
    try:
        with keybrake.run("again", cap=1, ledger=url):
            pass
    except keybrake.LedgerUnavailable:
        return False
    keybrake.open_ledger(url).close()
    return True


@pytest.mark.parametrize(("spoil", "words"), SEALS, ids=lambda it: getattr(it, "__name__", None))
def test_a_seal_that_does_not_fit_is_found_and_made_anew(doctor, copy, spoil, words):
    """The finding says what is wrong; nothing is done unasked; then the ledger is as it is."""
    uid, seq = newest(copy)
    spoil(copy)
    kept = seal_of(copy).read_bytes() if seal_of(copy).exists() else None

    found = wrong(doctor("--json"))
    assert words in found["seal"]
    assert "keybrake doctor --repair" in found["seal"]
    assert not can_be_used(copy)

    refused = doctor("--repair")
    assert refused.code == 2
    assert words in refused.err
    assert f"its newest event is {seq}" in refused.err
    assert "--yes" in refused.err
    assert (seal_of(copy).read_bytes() if seal_of(copy).exists() else None) == kept

    told = doctor("--repair", "--yes", "--json")
    assert wrong(told) == {}
    assert told.json["repaired"] == [
        f"sealed the ledger at event {seq}; restart every process that uses it"
    ]
    assert newest(copy) == (uid, seq + 1)
    assert can_be_used(copy)


def test_what_a_repair_gave_up_is_told(doctor, copy):
    """The number of events that are lost is said before, and stands in the chain afterwards."""
    rolled_back(copy)

    assert "What happened in the 5 events since then does not count" in doctor("--repair").err
    doctor("--repair", "--yes")
    with closing(sqlite3.connect(copy)) as db:
        kind, detail = db.execute(
            "SELECT kind, detail FROM event ORDER BY seq DESC LIMIT 1"
        ).fetchone()
    assert kind == "resealed"
    assert "the ledger is older than its seal" in detail


def test_a_deleted_ledger_begins_anew_only_when_a_person_says_so(doctor, copy):
    """With its seal there the ledger counts as deleted, until the seal is cleared away."""
    copy.unlink()
    copy.with_name("ledger.db-wal").write_bytes(b"what was left of it")

    assert "it was deleted" in wrong(doctor("--json"))["seal"]
    assert not can_be_used(copy)
    assert doctor("--repair").code == 2
    assert seal_of(copy).exists()

    told = doctor("--repair", "--yes", "--json")
    assert wrong(told) == {}
    assert not seal_of(copy).exists()
    assert not copy.with_name("ledger.db-wal").exists()
    assert can_be_used(copy)


@pytest.mark.parametrize(("answer", "done"), [(b"n\n", False), (b"y\n", True)])
def test_a_person_at_a_terminal_is_asked(copy, tmp_path, answer, done):
    """What is lost is shown with a question, and the answer is what happens."""
    lost(copy)
    ours, theirs = pty.openpty()
    argv = command("--ledger", f"sqlite:///{copy}", "doctor", "--repair")
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(tmp_path), cwd=tmp_path
    ) as process:
        os.close(theirs)
        os.write(ours, answer)
        said = _everything(ours)

    assert "The ledger is taken as it is" in said
    assert "Do it? [y/N]" in said
    assert ("left as it is" in said) is not done
    assert seal_of(copy).exists() is done
    assert process.returncode == (0 if done else 3)


def test_rights_and_leftovers_are_put_right_without_a_question(doctor, copy):
    """Nothing is lost by closing files to others, and by removing what the dead have left."""
    left = [copy.with_name(f"ledger.db{end}") for end in (".new", ".seal.new", ".owner-dead")]
    for file in left:
        file.touch(mode=0o600)
    copy.chmod(0o644)
    seal_of(copy).chmod(0o640)

    told = doctor("--json")
    assert wrong(told).keys() == {"rights"}
    notes = [c["detail"] for c in told.json["checks"] if c["check"] == "leftovers"]
    assert len(notes) == 1

    told = doctor("--repair", "--json")
    assert wrong(told) == {}
    assert len(told.json["repaired"]) == 2
    assert [file for file in left if file.exists()] == []
    assert {file.stat().st_mode & 0o777 for file in (copy, seal_of(copy))} == {0o600}


def test_what_a_living_process_needs_is_no_leftover(doctor, copy):
    """The file by which a process shows that it lives stays."""
    owner = copy.with_name("ledger.db.owner-alive")
    owner.touch(mode=0o600)
    with owner.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert doctor("--repair", "--json").json["repaired"] == []
    assert owner.exists()


@pytest.mark.parametrize("kind", ["text", "empty", "damaged", "link"])
def test_a_file_that_is_no_sound_ledger_is_left_as_it_is(doctor, copy, kind):
    """Nobody can put that right but its owner, who is told how; not a byte is written."""
    data = copy.read_bytes()
    lost(copy)
    if kind == "link":
        copy.rename(copy.with_name("elsewhere"))
        copy.symlink_to("elsewhere")
    else:
        page = data[:4096] + b"\xff" * 4096 + data[8192:]
        copy.write_bytes({"text": b"hello " * 1000, "empty": b"", "damaged": page}[kind])
    before = copy.read_bytes()

    told = doctor("--repair", "--yes")
    assert told.code == 3
    assert f"{copy} is left as it is" in told.out
    assert "backup" in told.out
    assert copy.read_bytes() == before
    assert not seal_of(copy).exists()


def test_a_sound_ledger_needs_no_repair(doctor, copy):
    """There is nothing to do, and nothing is done."""
    before = copy.read_bytes(), seal_of(copy).read_bytes()

    assert doctor("--repair", "--json").json["repaired"] == []
    assert (copy.read_bytes(), seal_of(copy).read_bytes()) == before


def test_a_held_lock_keeps_a_repair_waiting_and_no_longer(doctor, copy, tmp_path):
    """What another process holds is not repaired behind its back."""
    (tmp_path / "keybrake.toml").write_text("lock_timeout = 1")
    lost(copy)
    lock = copy.with_name("ledger.db.lock")
    lock.touch(mode=0o600)
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        told = doctor("--repair", "--yes")

    assert "was not free within 1 s" in told.out
    assert told.code == 3
    assert not seal_of(copy).exists()
