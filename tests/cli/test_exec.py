"""Does ``keybrake exec`` hold an unchanged program to its cap, without the vendors' secrets, and end cleanly?"""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import keybrake
from keybrake.cli.exec_child.gate import Gate
from keybrake.credentials import Brokered
from keybrake.errors import CredentialError
from keybrake.model.vault_key import make
from keybrake.testing import FakeResend, FakeStripe, FakeTwilio
from tests.cli.conftest import PATIENCE_S, _run_here, command, environment
from tests.conftest import ScriptedServer

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
SPENDS = """
import os, stripe
stripe.api_key, stripe.api_base = os.environ["STRIPE_API_KEY"], os.environ["STRIPE_API_BASE"]
stripe.max_network_retries = 0
def charge(cents=100):
    return stripe.PaymentIntent.create(amount=cents, currency="usd", payment_method="pm_card_visa", confirm=True)
"""


@pytest.fixture
def fake():
    """Start a fake Stripe."""
    with FakeStripe() as running:
        yield running


@pytest.fixture
def project(tmp_path, fake):
    """Return a folder in which the operator has named the fake as Stripe's own."""
    (tmp_path / "keybrake.toml").write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
    return tmp_path


def start(project, fake, *words, **changes):
    """Start a keybrake command in a project whose environment has the secret."""
    ledger = f"sqlite:///{project}/ledger.db"
    facts = {"STRIPE_API_KEY": SECRET, "STRIPE_API_BASE": fake.url, "KEYBRAKE_LEDGER": ledger}
    return subprocess.Popen(
        command(*words),
        cwd=project,
        env=environment(project, **{**facts, **changes}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture
def run(project, fake):
    """Return a function that runs a script under ``keybrake exec`` and returns what came of it."""

    def go(script, *options, words=(), **changes):
        # Loading the SDK takes longer than most of these scripts.
        spends = SPENDS if "charge(" in script or "stripe." in script else "import os\n"
        (project / "agent.py").write_text(spends + textwrap.dedent(script))
        given = options or ("--cap", "5")
        ran = start(
            project, fake, "exec", *given, "--", sys.executable, "agent.py", *words, **changes
        )
        out, err = ran.communicate(timeout=PATIENCE_S)
        return ran.returncode, out, err

    return go


def rows(project):
    """Return the runs of a project's ledger as ``keybrake runs --json`` has them."""
    words = ["--ledger", f"sqlite:///{project}/ledger.db", "runs", "--json"]
    told = _run_here(words, project, environment(project))
    assert told.code == 0, told.err
    return told.json


def test_an_unchanged_script_is_stopped_at_its_cap(run, project, fake):
    """Five charges of a dollar go out with the real key; the sixth ends the script, and the last line says so."""
    code, out, err = run("while True: print(charge().id)")

    assert (code, len(out.split())) == (1, 5)
    assert "CapExceeded" in err
    last = err.splitlines()[-1]
    assert last.startswith("keybrake: agent.py run_")
    assert (
        "$5.00 of $5.00 spent in 5 calls, 1 refused, the last: stripe.payment_intents.create"
        in last
    )
    assert last.endswith("(cap_exceeded); exit status 1")
    assert [entry.key_prefix for entry in fake.journal.entries] == ["sk_"] * 5
    (made,) = rows(project)
    assert (made["state"], made["spent_micros"], made["refused"]) == ("closed", 5_000_000, 1)


def test_the_child_has_no_secret(run, project):
    """Neither in its environment nor in its arguments, whatever variable it stood in; the key is there instead."""
    (project / "keybrake.toml").write_text(
        '[credentials]\nstripe = "env://MY_STRIPE"\nresend = "env://MAIL"\n'
    )
    code, out, _ = run(
        """
        import json, sys
        print(json.dumps([dict(os.environ), sys.argv, open("/proc/self/cmdline").read()]))
        """,
        MY_STRIPE=SECRET,
        MAIL="re_secret",
        STRIPE_SECRET_KEY=SECRET,
        TWILIO_AUTH_TOKEN="tw_secret",
        TWILIO_ACCOUNT_SID="AC1",
    )
    assert code == 0
    assert not any(secret in out for secret in (SECRET, "re_secret", "tw_secret"))
    environ = json.loads(out)[0]
    same = {"STRIPE_API_KEY", "MY_STRIPE", "STRIPE_SECRET_KEY", "MAIL", "RESEND_API_KEY"}
    same |= {"TWILIO_AUTH_TOKEN", "KEYBRAKE_VAULT_KEY"}
    assert {environ[name] for name in same} == {environ["KEYBRAKE_VAULT_KEY"]}
    assert environ["KEYBRAKE_VAULT_KEY"].startswith("kb_live_")
    assert environ["TWILIO_ACCOUNT_SID"] == "AC1"


def test_what_a_manager_is_asked_with_is_taken_out_too(run, project, tmp_path):
    """Whoever has the manager's token could fetch the secret; an agent keeps what it may need itself."""
    (tmp_path / "secret").write_text(SECRET)
    (project / "keybrake.toml").write_text(
        '[credentials]\nstripe = "file://secret"\nresend = "doppler://a/b/C"\n'
    )
    code, out, err = run(
        "print('began')", DOPPLER_TOKEN="dp.st.x", DOPPLER_API_HOST="http://127.0.0.1:9"
    )
    assert (code, out) == (1, "")
    assert "credentials.resend: doppler://a/b/C" in err
    (project / "keybrake.toml").write_text('[credentials]\nstripe = "op://a/b/c"\n')
    op = tmp_path / "bin" / "op"
    op.parent.mkdir()
    op.write_text(f"#!/bin/sh\nprintf {SECRET}\n")
    op.chmod(0o755)
    path = f"{op.parent}{os.pathsep}{os.environ['PATH']}"
    hidden = "print([os.environ.get(n) for n in ('OP_CONNECT_TOKEN', 'AWS_SECRET_ACCESS_KEY')])"
    code, out, err = run(hidden, PATH=path, OP_CONNECT_TOKEN="x", AWS_SECRET_ACCESS_KEY="own")
    assert (code, out.strip()) == (0, "[None, 'own']"), err


def test_every_python_below_is_guarded(run, fake, project):
    """A grandchild, in another folder and by a shell, spends under the same cap."""
    (project / "elsewhere").mkdir()
    below = 'charge(200)\nprint("below", flush=True)\ncharge(200)\n'
    (project / "elsewhere" / "below.py").write_text(SPENDS + below)
    script = """
        import subprocess, sys
        charge(200)
        done = subprocess.run(["sh", "-c", 'cd elsewhere && exec "$0" below.py', sys.executable])
        print(done.returncode)
    """
    code, out, err = run(script)
    assert (code, out.split()) == (0, ["below", "1"]), err
    assert len(fake.journal.entries) == 2
    assert "CapExceeded" in err


@pytest.mark.parametrize("how", ["spawn", "fork", "forkserver"])
def test_multiprocessing(run, fake, how):
    """Workers of any kind stand under the same cap."""
    script = f"""
        import multiprocessing
        def work(_):
            try:
                charge(100)
            except stripe.PermissionError:
                return "refused"
            return "charged"
        if __name__ == "__main__":
            with multiprocessing.get_context({how!r}).Pool(3) as pool:
                print(*sorted(pool.map(work, range(8))))
    """
    code, out, err = run(script)
    assert (code, out.split()) == (0, ["charged"] * 5 + ["refused"] * 3), err
    assert len(fake.journal.entries) == 5


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_status_goes_through(run, code):
    """Whatever the program says."""
    assert run(f"import sys; sys.exit({code})")[0] == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_that_ended_it(run, project, number):
    """As shells have it: 128 and its number; the run is closed all the same."""
    assert run(f"import os; os.kill(os.getpid(), {int(number)})")[0] == 128 + number
    assert rows(project)[0]["state"] == "closed"


_WAITS = """
import os, signal, sys, time
def on(number, frame):
    os.write(1, b"got %d\\n" % number)  # print may be interrupted, and cannot be used within itself
    sys.exit(9)
if len(sys.argv) > 1:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, on)
print("ready", flush=True)
for _ in range(600):  # a signal that comes just before a sleep is handled after it
    time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_through_once(project, fake, number):
    """One that is sent to keybrake reaches the program, which ends as it likes."""
    (project / "agent.py").write_text(_WAITS)
    ran = start(project, fake, "exec", "--cap", "5", "--", sys.executable, "agent.py", "handles")
    assert ran.stdout.readline() == "ready\n"
    ran.send_signal(number)
    out, err = ran.communicate(timeout=PATIENCE_S)
    assert (ran.returncode, out.count(f"got {int(number)}")) == (9, 1), err
    assert err.splitlines()[-1].endswith("exit status 9")
    assert rows(project)[0]["state"] == "closed"


def test_ctrl_c_in_a_terminal(project, fake):
    """The program gets one KeyboardInterrupt, and the run is closed with its summary."""
    (project / "agent.py").write_text(_WAITS)
    ledger = f"sqlite:///{project}/ledger.db"
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(project)
        words = command("exec", "--cap", "5", "--", sys.executable, "agent.py")
        os.execve(words[0], words, environment(project, KEYBRAKE_LEDGER=ledger))
    said = b""
    until = time.monotonic() + PATIENCE_S
    pressed = False
    while time.monotonic() < until:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            break
        if b"ready" in said and not pressed:
            pressed = True
            os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert said.count(b"KeyboardInterrupt") == 1
    assert b"exit status 130" in said
    assert rows(project)[0]["state"] == "closed"


def test_what_outlives_it_may_not_call(run, fake, project):
    """A process that the program leaves behind is in a closed run, and gets no credential."""
    below = """
import sys
open("ready", "w").close()
sys.stdin.read()
try:
    charge()
except Exception as error:
    open("told", "w").write(type(error).__name__)
"""
    (project / "below.py").write_text(SPENDS + below)
    script = """
        import subprocess, sys
        import time
        left = subprocess.Popen([sys.executable, "below.py"], stdin=subprocess.PIPE, stdout=2)
        subprocess.Popen(["sleep", "3"], pass_fds=[left.stdin.fileno()], stdout=2)
        while not os.path.exists("ready"): time.sleep(.02)
    """
    code, _, err = run(script)
    assert code == 0, err
    until = time.monotonic() + PATIENCE_S
    while not (project / "told").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (project / "told").read_text() == "RunClosed"
    assert fake.journal.entries == ()


def test_a_run_inside_is_a_child(run, project):
    """A program that has runs of its own keeps them, each under the outer cap, each with its own rows."""
    code, _, err = run(
        """
        import keybrake
        with keybrake.run("inner", cap=200):
            charge(300)
            charge(300)
        """
    )
    assert code == 1
    assert "parent run" in err
    outer, inner = rows(project)
    assert (inner["label"], inner["parent_id"]) == ("inner", outer["id"])
    assert (inner["calls"], inner["spent_micros"], outer["spent_micros"]) == (
        1,
        3_000_000,
        3_000_000,
    )


def test_an_exec_inside_an_exec(run, fake, project):
    """The inner one narrows, and asks the outer one for the credential."""
    code, out, err = run(
        """
        import subprocess, sys
        if len(sys.argv) > 1:
            while True:
                charge(100)
                print("charged", flush=True)
        words = [sys.executable, "-m", "keybrake", "exec", "--cap", "2", "--", sys.executable, "agent.py", "in"]
        print(subprocess.run(words).returncode)
        """
    )
    assert (code, out.split()) == (0, ["charged", "charged", "1"]), err
    outer, inner = rows(project)
    assert (outer["spent_micros"], inner["spent_micros"], inner["parent_id"]) == (
        *(2_000_000, 2_000_000),
        outer["id"],
    )
    assert [entry.key_prefix for entry in fake.journal.entries] == ["sk_"] * 2


def test_a_policy_by_name_and_a_label(run, project, fake):
    """The options are those of ``key issue``."""
    policy = '[policies.tiny]\ncap = 1\nallow = ["stripe.payment_intents.create"]\n'
    (project / "keybrake.toml").write_text(
        f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n{policy}'
    )
    code, _, err = run("charge(); stripe.Balance.retrieve()", "--policy", "tiny", "--label", "a b")
    assert code == 1
    assert "EndpointNotAllowed" in err
    assert rows(project)[0]["label"] == "a b"
    assert rows(project)[0]["cap_micros"] == 1_000_000


def test_the_summary_as_json(run, project):
    """One object on standard error; standard output is the program's."""
    code, out, err = run("charge(); print('mine')", "--cap", "5", "--json")
    assert (code, out) == (0, "mine\n")
    told = json.loads(err.splitlines()[-1])
    assert (told["spent_micros"], told["exit_status"], told["state"]) == (1_000_000, 0, "closed")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["exec", "--", "true"], 2, "--cap none is no cap"),
        (["exec", "--cap", "5"], 2, "Missing argument"),
        (["exec", "--cap", "lots", "--", "true"], 2, "cap='lots'"),
        (["exec", "--cap", "-1", "--", "true"], 2, "cap="),
        (["exec", "--cap", "5", "--nope", "--", "true"], 2, "No such option"),
        (["exec", "--cap", "5", "--", "no-such-command"], 127, "there is no such command"),
        (["exec", "--policy", "nope", "--", "true"], 2, "nope"),
        (["exec", "--cap", "5", "--", "./nowhere"], 127, "there is no such command"),
        (["exec", "--cap", "5", "--", "./no.txt"], 126, "./no.txt: is not executable"),
        (["exec", "--cap", "5", "--", "./folder"], 126, "./folder: is not executable"),
        (["exec", "--cap", "5", "--", SECRET], 127, "<not shown>: there is no such command"),
        (["exec", "--cap", "5", "--", "x" * 5000], 127, "…: there is no such command"),
    ],
)
def test_what_cannot_be_meant_starts_nothing(project, fake, words, code, told):
    """One line, and no run is written."""
    (project / "no.txt").write_text("not a program")
    (project / "folder").mkdir()
    ran = start(project, fake, *words)
    out, err = ran.communicate(timeout=PATIENCE_S)
    assert len(err) < 700
    assert SECRET not in err
    assert (ran.returncode, out, err.count("\n")) == (code, "", 1), err
    assert told in err
    assert not (project / "ledger.db").exists() or rows(project) == []


def test_a_file_on_the_path_that_is_not_executable(project, fake):
    """As shells have it: it is there, so the status is 126."""
    (project / "tool").write_text("not a program")
    path = f"{project}{os.pathsep}{os.environ['PATH']}"
    ran = start(project, fake, "exec", "--cap", "5", "--", "tool", PATH=path)
    _, err = ran.communicate(timeout=PATIENCE_S)
    assert (ran.returncode, err) == (126, "keybrake: tool: is not executable\n")
    assert not (project / "ledger.db").exists() or rows(project) == []


def test_a_credential_that_cannot_be_had_starts_nothing(run, project):
    """It is asked for before the program begins."""
    (project / "keybrake.toml").write_text('[credentials]\nstripe = "file://nowhere"\n')
    code, out, err = run("print('began')")
    assert (code, out) == (1, "")
    assert "credentials.stripe: file://nowhere" in err


def test_an_sdk_that_cannot_be_guarded_ends_the_program(run, project):
    """It does not begin, or it does not get past the import."""
    (project / "stripe").mkdir()
    (project / "stripe" / "__init__.py").write_text("VERSION = '99.0.0'\n")
    code, _, err = run("import stripe; print('unguarded')")
    assert code == 1
    assert "UnsupportedSDK" in err
    assert "unguarded" not in err.splitlines()[0]


def test_hooks_that_cannot_be_put_in_end_it(run, project):
    """They must be in before the first line, or there is no first line."""
    (project / "broken").mkdir()
    (project / "broken" / "wrapt.py").write_text("raise RuntimeError('not today')\n")
    code, out, err = run(
        """
        import subprocess, sys
        path = os.pathsep.join((os.environ["PYTHONPATH"], "broken"))
        words = [sys.executable, "-c", "print('began')"]
        print(subprocess.run(words, env={**os.environ, "PYTHONPATH": path}).returncode)
        """
    )
    assert (code, out.split()) == (0, ["1"])
    assert "the vendors' SDKs cannot be guarded here: not today" in err


ELSEWHERE = """
    import subprocess, sys
    words = [sys.executable, "-c", "from agent import charge; charge()"]
    def others(**facts):
        ran = subprocess.run(words, env={**os.environ, "PYTHONPATH": path, **facts}, stderr=-1, text=True)
        print(ran.stderr.splitlines()[-1].partition(":")[0])
    path = os.pathsep.join((os.environ["PYTHONPATH"], os.getcwd()))
    if __name__ == "__main__":
        os.environ["STRIPE_API_BASE"] = os.environ["OTHER"]
"""


@pytest.mark.parametrize(
    "instead",
    [
        "os.chdir('other'); others()",
        "others(KEYBRAKE_CONFIG='other/keybrake.toml')",
        "os.replace('other/keybrake.toml', 'keybrake.toml'); others()",
        "os.chdir('other'); stripe.api_base = os.environ['OTHER']; charge()",
    ],
)
@pytest.mark.parametrize("names_one", [True, False], ids=["a file", "no file"])
def test_what_is_configured_is_the_operators_word(run, fake, project, wire, instead, names_one):
    """Another keybrake.toml, where the program goes or puts it, does not say where a credential may go."""
    (project / "other").mkdir()
    (project / "other" / "keybrake.toml").write_text(
        f'[vendors.stripe]\nextra_hosts = ["{wire.url}"]\n'
    )
    if not names_one:
        (project / "keybrake.toml").unlink()
    last = f"        {instead}"
    code, out, err = run(f"{ELSEWHERE}{last}", OTHER=wire.url)
    assert "HostNotAllowed" in out + err, (code, out, err)
    assert wire.seen == []


def test_what_is_priced_is_the_operators_word(run, project):
    """A file of the program's own does not make calls cheaper, nor break them."""
    (project / "other").mkdir()
    (project / "other" / "keybrake.toml").write_text("no toml")
    code, out, err = run("os.chdir('other'); charge(); print('charged')")
    assert (code, out) == (0, "charged\n"), err
    (row,) = rows(project)
    assert row["spent_micros"] == 1_000_000


def test_who_has_lost_the_key_has_no_credential(run, project, fake):
    """Not even where it could read the place by itself, and not by a key of its own making."""
    (project / "secret").write_text(SECRET)
    with (project / "keybrake.toml").open("a") as file:
        file.write('[credentials]\nstripe = "file://secret"\n')
    code, out, err = run(
        """
        import keybrake, subprocess, sys
        if __name__ == "__main__":
            os.environ["PYTHONPATH"] += os.pathsep + os.getcwd()
            words = [sys.executable, "-c", "from agent import own; own()"]
            # What is started without the key gets it again; another program can take it out.
            sys.exit(subprocess.run(["env", "-u", "KEYBRAKE_VAULT_KEY", *words]).returncode)
        def own():
            stripe.api_key = keybrake.issue_vault_key("wide", cap=1000)
            try: charge()
            except keybrake.CredentialUnavailable as refusal: print(refusal.reason)
        """
    )
    assert (code, out) == (0, "credential_unavailable\n"), err
    assert fake.journal.entries == ()


def test_a_trimmed_environment_gets_the_key_again(run, project, fake):
    """A program that is started with hardly any variables, as MCP servers are, stands under the run too."""
    code, out, err = run(
        """
        import subprocess, sys
        code = (
            "import os, stripe; stripe.api_key, stripe.api_base = os.environ['KEYBRAKE_VAULT_KEY'], "
            "os.environ['STRIPE_API_BASE']; stripe.PaymentIntent.create(amount=100, currency='usd', "
            "payment_method='pm_card_visa', confirm=True); print('charged')"
        )
        kept = {"STRIPE_API_BASE": os.environ["STRIPE_API_BASE"]}
        for _ in range(2):
            sys.stdout.write(subprocess.run(
                [sys.executable, "-c", code], env=kept, stdout=subprocess.PIPE, text=True).stdout)
        """,
        "--cap",
        "1",
    )
    assert (code, out) == (0, "charged\n"), err
    assert [entry.key_prefix for entry in fake.journal.entries] == ["sk_"]


def test_doctor_asks_as_calls_do(run, project):
    """Below exec the credentials are not in their places, but in front."""
    code, out, err = run(
        """
        import subprocess, sys
        print(subprocess.run([sys.executable, "-m", "keybrake", "doctor"]).returncode)
        """
    )
    assert code == 0, err
    assert "stripe from the keybrake exec that started this process" in out
    assert out.endswith("\n0\n")


def test_ctrl_c_before_the_programs_first_line(run, project):
    """It ends as it would anywhere else, without a word about an error of Python's."""
    (project / "mine").mkdir()
    (project / "mine" / "sitecustomize.py").write_text(
        "import os, time\nif os.path.exists('wait'):\n    open('waits', 'w').close()\n    time.sleep(30)\n"
    )
    code, out, err = run(
        """
        import signal, subprocess, sys, time
        open("wait", "w").close()
        ran = subprocess.Popen([sys.executable, "-c", ""], stderr=-1, text=True)
        while not os.path.exists("waits"): time.sleep(.02)
        ran.send_signal(signal.SIGINT)
        print(repr(ran.communicate()[1]), ran.returncode)
        """,
        PYTHONPATH=str(project / "mine"),
    )
    assert (code, out) == (0, "'' -2\n"), err


def test_a_python_that_is_started_after_its_end_may_not_call(run, fake, project):
    """It runs, is told, and sends nothing: nobody says any more what is configured."""
    later = """
import sys, subprocess
sys.stdin.read()
call = '''
print("ran")
from below import charge, stripe
try:
    charge()
except stripe.PermissionError as error:
    print(type(error).__name__, error.reason, error)
'''
ran = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
shown = subprocess.run([sys.executable, "-m", "keybrake", "runs"], capture_output=True, text=True)
open("told", "w").write(ran.stdout + ran.stderr + str(shown.returncode))
"""
    (project / "below.py").write_text(SPENDS)
    (project / "later.py").write_text(later)
    script = """
        import subprocess, sys, time
        left = subprocess.Popen([sys.executable, "later.py"], stdin=subprocess.PIPE, stdout=2)
        subprocess.Popen(["sleep", "3"], pass_fds=[left.stdin.fileno()], stdout=2)
        time.sleep(1)
    """
    code, _, err = run(script)
    assert code == 0, err
    until = time.monotonic() + PATIENCE_S
    while not (project / "told").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    told = (project / "told").read_text()
    assert told.startswith(
        "ran\nCredentialUnavailable credential_unavailable the keybrake exec that"
    )
    assert "no longer sends its configuration: No such file or directory. Nothing was sent." in told
    assert "keybrake: vendor calls are refused here: the keybrake exec that" in told
    # What needs no configuration can still be read.
    assert told.endswith("0")
    assert fake.journal.entries == ()


def test_a_sitecustomize_of_the_users_own_runs_too(run, project):
    """What was on PYTHONPATH before is still there."""
    (project / "mine").mkdir()
    (project / "mine" / "sitecustomize.py").write_text("import sys; sys.mine = 'ran'\n")
    code, out, _ = run("import sys; print(sys.mine)", PYTHONPATH=str(project / "mine"))
    assert (code, out) == (0, "ran\n")


def test_an_interpreter_without_keybrake_is_told(project, fake):
    """It has no credential either; the line says so, and the program runs."""
    words = [sys.executable, "-S", "-c", "print('ran')"]
    ran = start(project, fake, "exec", "--cap", "5", "--", *words)
    assert ran.communicate(timeout=PATIENCE_S)[0] == "ran\n"
    startup = Path(keybrake.__file__).parent / "sdk" / "startup" / "sitecustomize.py"
    done = subprocess.run(
        [sys.executable, "-S", str(startup)],
        cwd="/",
        env={"PATH": os.environ["PATH"], "KEYBRAKE_CREDENTIALS": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "its vendor calls are not guarded, and have no credential" in done.stderr


def test_revoking_binds_the_next_call_and_the_next_credential(project, fake):
    """From another terminal, by the id of the run."""
    (project / "agent.py").write_text(
        SPENDS + "import sys\ncharge()\nprint('one', flush=True)\nsys.stdin.read()\ncharge()\n"
    )
    ledger = f"sqlite:///{project}/ledger.db"
    facts = {"STRIPE_API_KEY": SECRET, "STRIPE_API_BASE": fake.url, "KEYBRAKE_LEDGER": ledger}
    ran = subprocess.Popen(
        command("exec", "--cap", "5", "--", sys.executable, "agent.py"),
        cwd=project,
        env=environment(project, **facts),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout.readline() == "one\n"
    run_id = rows(project)[0]["id"]
    subprocess.run(
        command("--ledger", ledger, "revoke", run_id), env=environment(project), check=True
    )
    _, err = ran.communicate(timeout=PATIENCE_S)
    assert ran.returncode == 1
    assert "RunRevoked" in err
    assert f"{run_id} (revoked): $1.00 of $5.00 spent in 1 call, 1 refused" in err.splitlines()[-1]
    assert len(fake.journal.entries) == 1


def test_the_broker_gives_nothing_to_whoever_has_no_key(project, fake):
    """Another program of the same user may find the socket: without the key it has nothing of it."""
    (project / "agent.py").write_text(
        SPENDS
        + "import sys\nprint(os.environ['KEYBRAKE_CREDENTIALS'], os.environ['KEYBRAKE_VAULT_KEY'], flush=True)\nimport time\ntime.sleep(60)\n"
    )
    ran = start(project, fake, "exec", "--cap", "5", "--", sys.executable, "agent.py")
    address, key = ran.stdout.readline().split()
    assert Path(address).parent.stat().st_mode & 0o077 == 0
    with pytest.raises(CredentialError, match="not that of this run"):
        Brokered(address, key[:-1] + "x", 60).get("stripe")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        line.sendall(b"garbage\n")
        assert line.recv(100) == b""
    assert Brokered(address, key, 60).get("stripe").secret == SECRET
    ledger = f"sqlite:///{project}/ledger.db"
    run_id = rows(project)[0]["id"]
    subprocess.run(
        command("--ledger", ledger, "revoke", run_id), env=environment(project), check=True
    )
    with pytest.raises(CredentialError, match="is revoked"):
        Brokered(address, key, 60).get("stripe")
    ran.terminate()
    ran.communicate(timeout=PATIENCE_S)
    with pytest.raises(CredentialError, match="keybrake exec that started this process"):
        Brokered(address, key, 60).get("stripe")
    assert not Path(address).exists()


def test_a_rotated_credential_reaches_the_child(project, fake, tmp_path):
    """The vendor's 401 has the child ask anew, and keybrake fetch anew."""
    place = project / "secret"
    place.write_text("sk_live_old")
    with ScriptedServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        (project / "keybrake.toml").write_text(
            f'[credentials]\nstripe = "file://{place}"\n[vendors.stripe]\nextra_hosts = ["{server.url}"]\n'
        )
        intent = {"id": "pi_1", "object": "payment_intent", "status": "succeeded"}
        intent |= {"amount": 100, "amount_received": 100, "currency": "usd"}
        server.answer(200, intent)
        server.answer(401, {"error": {"message": "no"}})
        server.answer(200, {**intent, "id": "pi_2"})
        (project / "agent.py").write_text(
            SPENDS + "import sys\ncharge()\nprint('one', flush=True)\nimport time\n"
            f"while open({str(place)!r}).read() == 'sk_live_old': time.sleep(0.02)\ncharge()\n"
        )
        ran = start(
            project,
            fake,
            *("exec", "--cap", "5", "--", sys.executable, "agent.py"),
            STRIPE_API_BASE=server.url,
        )
        assert ran.stdout.readline() == "one\n"
        place.write_text("sk_live_new")
        _, err = ran.communicate(timeout=PATIENCE_S)
        assert ran.returncode == 0, err
        server.shutdown()
    sent = [b"sk_live_new" in one for one in server.seen]
    assert sent == [False, False, True]


def test_the_other_vendors(project, fake):
    """Twilio and Resend read their variables, and find the vault key."""
    with FakeTwilio() as twilio, FakeResend() as resend:
        (project / "keybrake.toml").write_text(
            f'[vendors.twilio]\nextra_hosts = ["{twilio.url}"]\n'
            f'[vendors.resend]\nextra_hosts = ["{resend.url}"]\n'
            '[prices.twilio]\nsms_segment = { "*" = "0.01" }\n'
        )
        (project / "agent.py").write_text(
            textwrap.dedent(
                f"""
                import resend
                from twilio.rest import Client
                from keybrake.testing.fake_twilio import clients
                resend.api_url = {resend.url!r}
                resend.Emails.send({{"from": "a@example.com", "to": "b@example.com", "subject": "x", "html": "y"}})
                client = Client(http_client=clients.sync_client({twilio.url!r}, pool_connections=False))
                client.messages.create(to="+14155550100", from_="+14155550101", body="hello")
                """
            )
        )
        ran = start(
            project,
            fake,
            *("exec", "--cap", "5", "--", sys.executable, "agent.py"),
            RESEND_API_KEY="re_secret",
            TWILIO_ACCOUNT_SID=twilio.account_sid,
            TWILIO_AUTH_TOKEN=twilio.auth_token,
        )
        _, err = ran.communicate(timeout=PATIENCE_S)
        assert ran.returncode == 0, err
        assert [entry.key_prefix for entry in resend.journal.entries] == ["re_"]
        assert len(twilio.journal.entries) == 1
    assert "spent in 2 calls" in err.splitlines()[-1]


# Many at once


def test_the_first_call_from_many_threads_at_once(run, fake):
    """One asks for the credential, the others wait for what it gets: all of them are charged."""
    code, out, err = run(
        """
        import threading
        barrier = threading.Barrier(64)
        def work():
            barrier.wait()
            charge()
            print("charged", flush=True)
        threads = [threading.Thread(target=work) for _ in range(64)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        "--cap",
        "100",
    )
    assert (code, out.count("charged")) == (0, 64), err
    assert len(fake.journal.entries) == 64


def test_many_who_ask_at_once(run):
    """Each as another process would, with nothing in common: all of them are served."""
    code, out, err = run(
        """
        import threading
        from keybrake.config.parent_process import ADDRESS
        from keybrake.credentials import Brokered
        barrier = threading.Barrier(64)
        def work():
            known = Brokered(os.environ[ADDRESS], os.environ["KEYBRAKE_VAULT_KEY"], 60)
            barrier.wait()
            print(known.get("stripe").secret, flush=True)
        threads = [threading.Thread(target=work) for _ in range(64)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """
    )
    assert (code, out.count("sk_live_")) == (0, 64), err


# Its exit status, whatever happens to keybrake


def test_the_exit_status_when_nobody_reads_standard_error(project):
    """Whoever was to read the summary is gone; what the program said of itself is still so."""
    line = f"{sys.executable} -m keybrake exec --cap 5 -- sh -c 'sleep .4; exit 7' 2> >(exec true)"
    ledger = f"sqlite:///{project}/ledger.db"
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo $?"],
        cwd=project,
        env=environment(project, KEYBRAKE_LEDGER=ledger),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == "7\n"
    assert rows(project)[0]["state"] == "closed"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("status", [0, 7])
def test_the_exit_status_when_nothing_can_be_written(project, status, stream):
    """A full disk where the summary goes is nothing that the program did."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("exec", "--cap", "5", "--", "sh", "-c", f"exit {status}"),
            cwd=project,
            env=environment(project, KEYBRAKE_LEDGER=f"sqlite:///{project}/ledger.db"),
            check=False,
            timeout=PATIENCE_S,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: full},
        )
    assert done.returncode == status


@pytest.mark.parametrize("left", ["", "; touch books/ledger.db", "; mkdir -p books/ledger.db"])
def test_the_exit_status_when_the_ledger_is_gone(project, fake, left):
    """That the run could not be closed is said, in a line."""
    (project / "books").mkdir()
    shell = (
        f"rm -rf books; mkdir books; rmdir books{left.replace(';', '; mkdir books;', 1)}; exit 7"
    )
    ledger = f"sqlite:///{project}/books/ledger.db"
    ran = start(
        project, fake, "exec", "--cap", "5", "--", "sh", "-c", shell, KEYBRAKE_LEDGER=ledger
    )
    _, err = ran.communicate(timeout=PATIENCE_S)
    assert ran.returncode == 7, err
    assert "could not be closed" in err
    assert "Traceback" not in err


_HANGS_UP = """
import signal, sys, time
def on(number, frame):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the kernel may tell the program as well
    open("told", "a").write(f"got {number}\\n")
    sys.exit(9)
signal.signal(signal.SIGHUP, on)
print("ready", flush=True)
for _ in range(600):
    time.sleep(0.1)
"""


def test_a_terminal_that_hangs_up(project):
    """The kernel tells the leader of the session alone; the program learns of it from there."""
    (project / "agent.py").write_text(_HANGS_UP)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(project)
        words = command("exec", "--cap", "5", "--", sys.executable, "agent.py")
        ledger = f"sqlite:///{project}/ledger.db"
        os.execve(words[0], words, environment(project, KEYBRAKE_LEDGER=ledger))
    said = b""
    while b"ready\r\n" not in said:  # the whole of it, or the program fails to write the rest
        said += os.read(terminal, 4096)
    os.close(terminal)
    ended = (0, 0)
    until = time.monotonic() + PATIENCE_S / 2
    while ended[0] == 0 and time.monotonic() < until:
        time.sleep(0.05)
        ended = os.waitpid(child, os.WNOHANG)
    if ended[0] == 0:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    assert ended[0] == child
    assert os.waitstatus_to_exitcode(ended[1]) == 9
    assert (project / "told").read_text().startswith("got 1")
    assert rows(project)[0]["state"] == "closed"


# Who is given a credential


def test_a_key_that_was_issued_inside_is_served(run, fake, project):
    """It stands under the run of exec; the calls are those of its own run, under its own cap."""
    code, out, err = run(
        """
        import subprocess, sys, keybrake
        if len(sys.argv) > 1:
            while True:
                charge(100)
                print("charged", flush=True)
        key = keybrake.issue_vault_key("worker", cap=2)
        below = {**os.environ, "KEYBRAKE_VAULT_KEY": key}
        print(subprocess.run([sys.executable, "agent.py", "in"], env=below).returncode)
        """
    )
    assert (code, out.split()) == (0, ["charged", "charged", "1"]), err
    assert "CapExceeded" in err
    assert len(fake.journal.entries) == 2
    assert [row["spent_micros"] for row in rows(project)] == [2_000_000, 2_000_000]


def test_only_keys_of_the_run_and_of_living_runs_below_it_are_served(project, fake):
    """A key of another run of the same ledger is a stranger's; one whose run is over has no more use."""
    script = """
import os, sys, keybrake
from keybrake.config.parent_process import ADDRESS
outer = keybrake.issue_vault_key("outer", cap=2)
@keybrake.tool(name="worker", cap=1)
def issue():
    return keybrake.issue_vault_key("inner", cap=1)
with keybrake.run(key=outer):
    inner = issue()
print(os.environ[ADDRESS], outer, outer.run_id, inner, flush=True)
sys.stdin.read()
"""
    (project / "agent.py").write_text(script)
    ledger = f"sqlite:///{project}/ledger.db"
    stranger = keybrake.issue_vault_key("stranger", cap=1, ledger=ledger)
    facts = {"STRIPE_API_KEY": SECRET, "KEYBRAKE_LEDGER": ledger}
    ran = subprocess.Popen(
        command("exec", "--cap", "5", "--", sys.executable, "agent.py"),
        cwd=project,
        env=environment(project, **facts),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    address, outer, outer_id, inner = ran.stdout.readline().split()
    for key in (outer, inner):
        assert Brokered(address, key, 60).get("stripe").secret == SECRET
    for key in (stranger, make(), "kb_live_x", "", "é" * 57):
        with pytest.raises(CredentialError, match="not that of this run"):
            Brokered(address, key, 60).get("stripe")
    books = keybrake.open_ledger(ledger)
    books.pause(outer_id)
    assert Brokered(address, inner, 60).get("stripe").secret == SECRET
    books.revoke(outer_id)
    for key in (outer, inner):
        with pytest.raises(CredentialError, match=f"the run {outer_id} is revoked"):
            Brokered(address, key, 60).get("stripe")
    ran.communicate("", timeout=PATIENCE_S)
    books.close()


def test_a_forged_key_costs_the_ledger_nothing(tmp_path):
    """It is told by its checksum: the ledger, which is not even there, is not asked."""
    gate = Gate(f"sqlite:///{tmp_path}/nowhere/ledger.db")
    gate.run_id = "run_1"
    assert gate(make()[:-1] + "!") == gate("kb_live_x") == "the vault key is not that of this run"
    assert not (tmp_path / "nowhere").exists()


# What can be seen from outside


_LOOKS = """
import os
try:
    print("secret" if b"4eC39" in open(f"/proc/{os.getppid()}/environ", "rb").read() else "read")
except PermissionError:
    print("refused")
open("/proc/self/environ", "rb").read()  # the program itself can still be debugged
"""
# Root may look at everything. Without its capabilities it is a user like any other, of the same name.
_AS_A_USER = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows it in /proc")
def test_the_environment_of_exec_is_not_to_be_read(project):
    """It has the secrets, and a program of the same user could read it there."""
    (project / "agent.py").write_text(_LOOKS)
    words = command("exec", "--cap", "5", "--", sys.executable, "agent.py")
    done = subprocess.run(
        [sys.executable, "-c", _AS_A_USER, *words],
        cwd=project,
        env=environment(
            project, STRIPE_API_KEY=SECRET, KEYBRAKE_LEDGER=f"sqlite:///{project}/ledger.db"
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


_DUMPABLE = """
import ctypes, sys
from keybrake.cli import app as _app; from keybrake.cli.exec_child import spawn as _spawn
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
status = eval(sys.argv[1])
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux's")
@pytest.mark.parametrize(
    ("call", "status"),
    [("_spawn.hide()", "None"), ("_app.run(['exec', '--cap', '5', '--', 'true'])", "0")],
)
def test_the_process_is_not_dumpable(project, call, status):
    """PR_GET_DUMPABLE says so to the process itself, whoever it belongs to."""
    done = subprocess.run(
        [sys.executable, "-c", _DUMPABLE, call],
        env=environment(project, KEYBRAKE_LEDGER=f"sqlite:///{project}/ledger.db"),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == f"1 0 {status}\n", done.stderr


def test_copies_of_the_secrets_are_taken_out_too(run, project):
    """Under whatever name they stand, and inside of whatever; what is shorter than any secret stays."""
    (project / "keybrake.toml").write_text('[credentials]\nstripe = "file://secret"\n')
    (project / "secret").write_text(SECRET)
    code, out, err = run(
        "import json; print(json.dumps(dict(os.environ)))",
        STRIPE_API_KEY="",
        STRIPE_KEY=SECRET,
        X=f"prefix{SECRET}suffix {SECRET}",
        PYTHONPATH=f"/nowhere/{SECRET}",
        TWILIO_ACCOUNT_SID="AC1",
        TWILIO_AUTH_TOKEN="tw_long_secret",
        TWILIO_TOKEN="tw_long_secret",
        RESEND_API_KEY="re_",
        LONGER=f"{SECRET}0",
        SHORT="re_",
        STRIPE_OTHER="sk_test_51OtherKey0123,rk_live_0123456789",
        STRIPE_PUBLISHABLE="pk_live_0123456789",
        MAIL_KEY="re_9K2mPq7t_4xVbN8wLdRzYcHs3JfGkTa",
        TWILIO_API_SECRET="short",
        TWILIO_BACKUP_AUTH_TOKEN="0123456789abcdef0123456789abcdef",
        TWILIO_EMPTY_TOKEN="",
    )
    assert code == 0, err
    assert not any(secret in out for secret in (SECRET, "tw_long_secret"))
    environ = json.loads(out)
    key = environ["KEYBRAKE_VAULT_KEY"]
    assert environ["STRIPE_KEY"] == environ["TWILIO_TOKEN"] == key
    assert environ["X"] == f"prefix{key}suffix {key}"
    assert environ["SHORT"] == "re_"
    # What looks like another secret of a vendor's, too.
    assert environ["STRIPE_OTHER"] == f"{key},{key}"
    assert environ["STRIPE_PUBLISHABLE"] == "pk_live_0123456789"
    assert environ["MAIL_KEY"] == environ["TWILIO_BACKUP_AUTH_TOKEN"] == key
    assert environ.get("TWILIO_API_SECRET") in (key, None)
    assert environ["TWILIO_EMPTY_TOKEN"] == ""


# The socket and the name


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["agent.py", "-v"], "agent.py"),
        (["-u", "agent.py"], "agent.py"),
        (["-X", "utf8", "-W", "error", "agent.py"], "agent.py"),
        (["-m", "agent", "-u"], "agent"),
        (["-c", "print()"], Path(sys.executable).name),
    ],
)
def test_it_is_called_after_the_script(project, fake, words, label):
    """Not after the interpreter, whatever that is told beside."""
    (project / "agent.py").write_text("")
    ran = start(project, fake, "exec", "--cap", "5", "--", sys.executable, *words)
    assert f"keybrake: {label} run_" in ran.communicate(timeout=PATIENCE_S)[1]


def test_a_long_folder_for_temporary_files(run, project, fake):
    """The path of a socket has room for a hundred characters or so; the folder is another one then."""
    long = project / ("x" * 115)
    long.mkdir()
    code, out, err = run("print(os.environ['KEYBRAKE_CREDENTIALS']); charge()", TMPDIR=str(long))
    assert code == 0, err
    assert len(os.fsencode(out.strip())) <= 100
    assert len(fake.journal.entries) == 1
    assert not Path(out.strip()).parent.exists()


def test_where_no_socket_can_be_made_no_run_is_opened(project):
    """One line says so."""
    script = "import sys, tempfile; tempfile.tempdir = '/dev/null/nowhere'; import keybrake.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "exec", "--cap", "5", "--", "true"],
        cwd=project,
        env=environment(project, KEYBRAKE_LEDGER=f"sqlite:///{project}/ledger.db"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("keybrake: no socket for the credentials can be made: ")
    assert done.stderr.count("\n") == 1
    assert rows(project) == []


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (b"a" * 230 + b".py", "a" * 200),
        (b"ag\xffent.py", "ag\N{REPLACEMENT CHARACTER}ent.py"),
        (b"", "python"),
    ],
)
def test_a_name_that_is_no_label(project, fake, name, label):
    """Nobody gave one, so nobody is told that it is wrong: it is made to fit."""
    if name:
        (project / os.fsdecode(name)).write_text("")
    ran = start(
        project, fake, "exec", "--cap", "5", "--", "python", os.fsdecode(name),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    _, err = ran.communicate(timeout=PATIENCE_S)
    assert rows(project)[0]["label"] == label, err
    assert (ran.returncode == 0) is bool(name)


# What is said


def test_what_a_command_is_asked_with_is_not_shown(run, project):
    """The arguments of a command that fetches a credential may be a token; its name is enough."""
    (project / "keybrake.toml").write_text(
        '[credentials]\nstripe = "exec://false?args=--token%20hunter2#/key"\n'
    )
    code, out, err = run("print('began')")
    assert (code, out) == (1, "")
    assert "credentials.stripe: exec://false?…#/key ended with exit code 1" in err
    assert "hunter2" not in err


def test_a_thread_that_takes_the_signal_does_not_hold_up_the_end(project):
    """The end of the program is noticed, even if another thread was sent the signal that tells of it."""
    # The program ends before anybody waits for it.
    code = (
        "import _thread, os, sys, threading, time\n"
        "_thread.start_new_thread(threading.Event().wait, ())\n"
        "begin = os.posix_spawnp\n"
        "os.posix_spawnp = lambda *a, **k: (begin(*a, **k), time.sleep(0.5))[0]\n"
        "from keybrake.cli import app as _app\n"
        "sys.exit(_app.run(['exec', '--cap', '5', '--', 'true']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project,
        env=environment(project, KEYBRAKE_LEDGER=f"sqlite:///{project}/ledger.db"),
    ) as process:
        try:
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()  # it holds every other signal
