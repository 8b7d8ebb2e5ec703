"""Does a run follow into the programs that are started in it, and leave other programs as they are?"""

import subprocess
import sys
from pathlib import Path

import pytest
import stripe

import keybrake
from tests.sdk._program import BEGINNING, run

CHILD = """
{beginning}
for _ in range(6):
    with open({said!r}, "a") as file:
        print(charge(), file=file, flush=True)
"""

WAYS = {
    "run": "subprocess.run(child, check=True)",
    "an environment of its own": "subprocess.run(child, env={'BASE': os.environ['BASE']}, check=True)",
    "an environment by place": "subprocess.Popen(child, -1, None, None, None, None, None, True, False, None, {b'BASE': os.environ['BASE'].encode()}).wait()",
    "a shell": "subprocess.run(' '.join(child), shell=True, check=True)",
    "system": "os.system(' '.join(child))",
    "popen": "os.popen(' '.join(child)).read()",
    "posix_spawn": "os.waitpid(os.posix_spawn(child[0], child, os.environ), 0)",
    "posix_spawnp": "os.waitpid(os.posix_spawnp(child[0], child, {'BASE': os.environ['BASE']}), 0)",
    "spawnv": "os.spawnv(os.P_WAIT, child[0], child)",
    "spawnle": "os.spawnle(os.P_WAIT, child[0], *child, {'BASE': os.environ['BASE']})",
    "fork and exec": "os.waitpid(os.fork() or os.execv(child[0], child), 0)",
    "fork and execvpe": "os.waitpid(os.fork() or os.execvpe(child[0], child, {'BASE': os.environ['BASE']}), 0)",
    "a terminal": "pty.spawn(child)",
    "asyncio": "asyncio.run(begin(*child))",
    "a thread": "in_thread(lambda: subprocess.run(child, check=True))",
    "a grandchild": "subprocess.run([child[0], '-c', f'import subprocess; subprocess.run({child!r})'], check=True)",
}

PARENT = """
import asyncio, pty, subprocess, threading

async def begin(*child):
    process = await asyncio.create_subprocess_exec(*child)
    await process.wait()

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

child = [sys.executable, "child.py"]
"""


@pytest.fixture
def child(tmp_path):
    """Write a program that tries to spend six dollars, and return a function that reads what it did."""
    said = tmp_path / "said"
    text = CHILD.format(beginning=BEGINNING, said=str(said))
    (tmp_path / "child.py").write_text(text)

    def outcomes():
        found = said.read_text().split() if said.exists() else []
        said.unlink(missing_ok=True)
        return found

    return outcomes


STOPPED = ["charged"] * 4 + ["cap_exceeded"] * 2


@pytest.mark.parametrize("way", WAYS)
def test_the_cap_binds_in_a_program_too(ledger_url, fake, tmp_path, child, way):
    """However a program is started in a run, four of its six dollars go out under a cap of $4."""
    text = f'{PARENT}\nwith keybrake.run("agent", cap=4) as run:\n    {WAYS[way]}\nsay(str(run.spent))\n'

    said = run(tmp_path, fake.url, text)

    assert child() == STOPPED
    assert said == ["4.00"]
    assert len(fake.journal.entries) == 4


def test_exec_in_place_of_the_program_itself(ledger_url, fake, tmp_path, child):
    """A program that becomes another one inside a run stays in the run."""
    text = f'{PARENT}\nwith keybrake.run("agent", cap=4):\n    os.execl(child[0], *child)\n'

    run(tmp_path, fake.url, text)

    assert child() == STOPPED


def test_what_system_returns(ledger_url, fake, tmp_path):
    """os.system() returns in a run what it returns outside of one, for an exit status and for a signal."""
    text = """
    commands = ("true", "exit 3", "kill -9 $$")
    outside = [os.system(command) for command in commands]
    with keybrake.run("agent", cap=4):
        inside = [os.system(command) for command in commands]
    say([outside, inside])
    """
    ((outside, inside),) = run(tmp_path, fake.url, text)

    assert inside == outside == [0, 3 << 8, 9]


def test_a_tool_binds_its_programs(ledger_url, fake, tmp_path, child):
    """The cap of a tool binds all programs that the tool starts, and its run's totals have their calls."""
    text = f"""{PARENT}
@keybrake.tool(cap=3)
def pay():
    for _ in range(2):
        subprocess.run(child, check=True)

@keybrake.tool(cap=3)
def outer():
    pay()

with keybrake.run("agent", cap=9) as run:
    pay()
    outer()
    say(str(run.spent))
"""
    said = run(tmp_path, fake.url, text)

    nested = ["unknown_vault_key"] * 12
    assert child() == ["charged"] * 3 + ["cap_exceeded"] * 9 + nested
    assert said == ["3.00"]
    assert {one.state() for one in keybrake.open_ledger().runs()} <= {"open", "closed"}


def test_a_key_that_stands_under_the_run_stays(ledger_url, fake, tmp_path, child):
    """A program may be given a narrower key of the same run, and no other one."""
    text = f"""{PARENT}
wide = keybrake.issue_vault_key("wide", cap=None)
with keybrake.run("agent", cap=4) as run:
    narrow = keybrake.issue_vault_key("narrow", cap=1)
    for key in (narrow, wide, "kb_live_forged"):
        subprocess.run(child, env={{**os.environ, "KEYBRAKE_VAULT_KEY": key}}, check=True)
    say(str(run.spent))
"""
    said = run(tmp_path, fake.url, text)

    outcomes = child()
    assert outcomes[:6] == ["charged"] + ["cap_exceeded"] * 5
    assert outcomes[6:] == ["charged"] * 3 + ["cap_exceeded"] * 9
    assert said == ["4.00"]


def test_a_key_of_the_start_goes_to_programs_too(ledger_url, fake, tmp_path, child, monkeypatch):
    """A process that takes its vault key out of its environment starts no program without it, or on another ledger."""
    text = f"""{PARENT}
keybrake.install()
del os.environ["KEYBRAKE_VAULT_KEY"]
subprocess.run(child, check=True)
elsewhere = {{"BASE": os.environ["BASE"], "HOME": "/dev/null"}}
subprocess.run([child[0], os.path.abspath(child[1])], env=elsewhere, cwd="/", check=True)
"""
    key = keybrake.issue_vault_key("started", cap=4)

    (tmp_path / "keybrake.toml").write_text('ledger = "sqlite:///ledger.db"\n')
    monkeypatch.delenv("KEYBRAKE_LEDGER")

    run(tmp_path, fake.url, text, KEYBRAKE_VAULT_KEY=key)

    assert child() == STOPPED + ["cap_exceeded"] * 6


def test_programs_outside_of_every_run_are_left_alone(ledger_url, fake, tmp_path):
    """Outside of runs a program gets the environment it would have had."""
    text = """
    import subprocess
    keybrake.install()
    def environ(**how):
        return subprocess.run(["env"], capture_output=True, text=True, **how).stdout
    before = environ()
    with keybrake.run("agent", cap=1):
        inside = environ(env={})
    say([before == environ(), environ(env={}), "KEYBRAKE_VAULT_KEY" in before, sorted(
        line.partition("=")[0] for line in inside.splitlines())])
    """
    ((same, empty, has_key, inside),) = run(tmp_path, fake.url, text)

    assert (same, empty, has_key) == (True, "", False)
    assert set(inside) == {"KEYBRAKE_VAULT_KEY", "KEYBRAKE_LEDGER", "PYTHONPATH"}


def test_no_command_line_shows_the_key(ledger_url, fake, tmp_path):
    """What ps shows of a program, and of the shell before it, has no key in it."""
    text = """
    import subprocess
    look = "cat /proc/$$/cmdline /proc/self/cmdline"
    with keybrake.run("agent", cap=1) as run:
        seen = subprocess.run(look, shell=True, capture_output=True, text=True).stdout
        os.system(look + " > seen")
        seen += open("seen").read()
    say([run.key in seen, "cmdline" in seen])
    """
    assert run(tmp_path, fake.url, text) == [[False, True]]


SITE = """
import sys
with open({log!r}, "a") as file:
    print("mine", file=file)
"""


def test_a_program_that_needs_no_sdk_does_not_notice(ledger_url, fake, tmp_path):
    """A Python that imports no SDK loads no keybrake, and a sitecustomize of its own runs."""
    (tmp_path / "own").mkdir()
    log = tmp_path / "log"
    (tmp_path / "own" / "sitecustomize.py").write_text(SITE.format(log=str(log)))
    text = """
    import subprocess
    code = "import sys, json; print(json.dumps([n for n in sys.modules if n.startswith(('keybrake', 'wrapt'))]))"
    with keybrake.run("agent", cap=1):
        os.environ["PYTHONPATH"] = "own"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    say([json.loads(done.stdout), done.stderr])
    """
    assert run(tmp_path, fake.url, text) == [[[], ""]]
    assert log.read_text() == "mine\n"


def test_a_python_without_keybrake_imports_no_sdk(tmp_path):
    """Where keybrake is not installed a vendor's SDK cannot be guarded, so it is not imported."""
    (tmp_path / "stripe.py").write_text("print('imported')\n")
    startup = Path(keybrake.__file__).parent / "sdk" / "startup"
    # With -S Python finds no installed package; the test does what it would do at its start.
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sitecustomize, stripe"],
        env={"PYTHONPATH": f"{startup}:{tmp_path}", "KEYBRAKE_VAULT_KEY": "kb_live_any"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("ImportError: stripe is not imported: this program was started inside")
    assert sys.executable in told


def test_a_command_of_keybrake_stands_under_the_run(ledger_url, fake, tmp_path):
    """A key that `keybrake key issue` makes in a program of a run is a child of that run."""
    text = """
    import subprocess
    with keybrake.run("agent", cap=1):
        done = subprocess.run([sys.executable, "-m", "keybrake", "key", "issue", "x", "--cap", "9"], capture_output=True, text=True)
        say(done.returncode)
    """
    assert run(tmp_path, fake.url, text) == [0]
    agent, issued = keybrake.open_ledger().runs()
    assert issued.parent_uid == agent.uid


def test_python_that_ignores_its_environment_is_not_guarded(tmp_path):
    """The documented hole: with -I or -E no hook gets into a program, and its environment still has the key."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print('sitecustomize' in sys.modules)"],
        env={"PYTHONPATH": str(Path(keybrake.__file__).parent / "sdk" / "startup")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_program_that_an_sdk_starts_while_it_sends_opens_no_run(fake, ledger_url, monkeypatch):
    """Stripe's SDK asks `uname` for its user agent: that leaves no second run in the ledger."""

    class AsksTheSystem(stripe.RequestsClient):
        def request(self, *args, **kwargs):
            subprocess.run(["true"], check=True)
            return super().request(*args, **kwargs)

    client = AsksTheSystem()
    monkeypatch.setattr(stripe, "default_http_client", client)

    @keybrake.tool
    def pay() -> None:
        stripe.PaymentIntent.create(amount=100, currency="usd")

    with keybrake.run("agent", cap=5) as run:
        pay()
    client.close()

    assert [one.uid for one in keybrake.open_ledger(ledger_url).runs()] == [run.id]
