"""Does a clock that a test has stopped leave every deadline of ours in force?"""

import contextlib
import fcntl
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keybrake.ledger.stores.sqlite import ledger_files

# By the name of the tool: how it stops the clock, before anything of ours is imported or after.
STOPPED = {
    "freezegun": "from freezegun import freeze_time\nstopped = freeze_time('2030-01-01')\n",
    "time-machine": "import time_machine\nstopped = time_machine.travel('2030-01-01', tick=False)\n",
}


def run_child(code: str, ledger: Path, *args: str) -> str:
    """Run a program on a ledger, in a process of its own; return what it printed."""
    env = {**os.environ, "KEYBRAKE_LEDGER": f"sqlite:///{ledger}"}
    command = [sys.executable, "-W", "ignore", "-c", code, *args]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
    return ended.stdout


@contextlib.contextmanager
def held(ledger: Path) -> Iterator[None]:
    """Hold the lock of a ledger."""
    fd = os.open(f"{ledger}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


_THREADS = 16
_REFUSED = """
import sys, threading, keybrake
{tool}
keybrake.configure(lock_timeout=1)
said = []
def open_run():
    try:
        with keybrake.run("waits", cap=1):
            pass
    except keybrake.LedgerUnavailable as refusal:
        said.append("within 1 s" in str(refusal))
with stopped:
    threads = [threading.Thread(target=open_run) for _ in range({threads})]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(said == [True] * {threads})
"""


@pytest.mark.parametrize("tool", STOPPED)
def test_each_thread_is_refused_at_its_deadline(tmp_path, tool):
    """Sixteen threads that wait behind one another wait for one second, and not one after the other."""
    ledger = tmp_path / "ledger.db"
    ledger_files.create(ledger)
    code = _REFUSED.format(tool=STOPPED[tool], threads=_THREADS)
    began = time.monotonic()
    with held(ledger):
        assert run_child(code, ledger) == "True\n"
    assert time.monotonic() - began < _THREADS / 2


_CONFIGURED = """
import keybrake
with keybrake.run("first", cap=1):
    pass
print("ready", flush=True)
input()
keybrake.configure(lock_timeout=0.5)
try:
    with keybrake.run("second", cap=1):
        pass
except keybrake.LedgerUnavailable as refusal:
    print("within 0.5 s" in str(refusal))
"""


def test_a_deadline_that_is_set_later_binds_too(tmp_path):
    """A ledger that was opened before keeps to what the program says afterwards."""
    ledger = tmp_path / "ledger.db"
    env = {**os.environ, "KEYBRAKE_LEDGER": f"sqlite:///{ledger}"}
    command = [sys.executable, "-c", _CONFIGURED]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) as child:
        assert child.stdout.readline() == "ready\n"
        with held(ledger):
            said, _ = child.communicate("\n", timeout=60)
    assert said == "True\n"


_FIRST = """
import sys, keybrake
{tool}
with stopped, keybrake.run("first", cap=1) as run:
    print(run.remaining)
print(sorted({{"numpy", "pandas", "pysqlite3", "sqlean", "sqlite_utils"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("tool", STOPPED)
def test_a_first_ledger_loads_nothing_that_it_does_not_need(tmp_path, tool):
    """Pandas is installed here, and stays where it is; under a stopped clock it would crash."""
    assert importlib.util.find_spec("pandas") is not None
    said = run_child(_FIRST.format(tool=STOPPED[tool]), tmp_path / "ledger.db")
    assert said == "1.00\n[]\n"


_LOOK_UP = """
import asyncio, keybrake.guard.steps as steps
class Drip(steps.SendStep):
    limit_s = 0.3
    def send(self):
        return drip()
{tool}
async def drip():
    await asyncio.get_running_loop().create_future()
def way():
    try:
        yield Drip()
    except TimeoutError:
        return "given up"
with stopped:
    print(asyncio.run(steps.run_steps_async(way())))
"""


@pytest.mark.parametrize("tool", STOPPED)
def test_a_look_up_that_never_ends_is_given_up(tmp_path, tool):
    """The loop's own clock stands still, and with it every timeout of asyncio."""
    said = run_child(_LOOK_UP.format(tool=STOPPED[tool]), tmp_path / "ledger.db")
    assert said == "given up\n"


_CREDENTIAL = """
import os, threading
from keybrake.credentials.store import Credentials
from keybrake.errors import CredentialError
{tool}
kept = Credentials({{}}, 300)
with stopped:
    try:
        kept.get("stripe")
    except CredentialError:
        os.environ["STRIPE_API_KEY"] = "sk_test_1"
    threading.Event().wait(1.2)
    kept.get("stripe")
print("found")
"""


@pytest.mark.parametrize("tool", STOPPED)
def test_a_credential_that_was_not_there_is_looked_for_again(tmp_path, tool):
    """What failed a moment ago is asked for anew a second later, whatever a stopped clock shows."""
    said = run_child(_CREDENTIAL.format(tool=STOPPED[tool]), tmp_path / "ledger.db")
    assert said == "found\n"
