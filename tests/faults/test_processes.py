"""Forks, preloads, exits and signals in the middle of a call: does each process end its own calls alone?"""

import contextlib
import os
import signal
import subprocess
from collections import Counter
from typing import Any

import pytest
import stripe

import keybrake
from keybrake.testing import Fault
from tests.faults import _acts, _oracle
from tests.faults._acts import Scene
from tests.faults._stage import Actor, wait_for
from tests.races import _many

_START = """
import os, resource, signal, sys, threading, time
import keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_x", 0
ledger, key = sys.argv[2:4]
def pay():
    with keybrake.run(key=key, ledger=ledger):
        stripe.PaymentIntent.create(amount=100, currency="usd")
"""


@pytest.fixture
def scene(ledger_url, fake) -> Scene:
    """Make a ledger with a run, as another process would have left it."""
    with Actor(Scene(ledger_url, fake.url, None), _key) as actor:
        actor.go()
        return Scene(ledger_url, fake.url, actor.answer())


def _key(scene: Scene):
    yield
    yield str(keybrake.issue_vault_key("shared", cap=None, ledger=scene.ledger))


def agent(scene: Scene, code: str, *more: str) -> contextlib.AbstractContextManager[Any]:
    """Run *code* on the scene in a Python of its own, for the length of a block."""
    return _many.child(_START + code, scene.vendor, scene.ledger, str(scene.key), *more)


def states(scene: Scene) -> list[str]:
    """Return the states of all calls, in order."""
    with _oracle.opened(scene) as ledger:
        return [state for _, _, state, _, _ in _oracle.rows_of(ledger)]


def doubts(scene: Scene) -> int:
    """Return how many calls this process takes to be in doubt."""
    return len(keybrake.open_ledger(scene.ledger).in_doubt())


def test_children_of_a_fork_server_share_the_run(scene, fake):
    """Processes that a server forks charge the run that this process has open, each on its own handle."""
    with keybrake.run(key=scene.key, ledger=scene.ledger) as run:
        stripe.PaymentIntent.create(amount=100, currency="usd")
        with Actor(scene, _acts.call) as one, Actor(scene, _acts.call) as other:
            for actor in (one, other):
                actor.go()
            assert [one.answer(), other.answer()] == ["done", "done"]
        stripe.PaymentIntent.create(amount=100, currency="usd")

        assert (run.spent, run.reserved, run.calls) == (16, 0, 4)
    assert _oracle.violations(scene, fake.journal.entries) == []


_PRELOADED = """
# The application is loaded once, ledger, run and all; its workers are forked from it.
pay()
def worker(calls):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(30)
    stripe.default_http_client = None  # two processes cannot talk over one connection
    for _ in range(calls):
        pay()
    os._exit(0)  # as servers do: nothing is tidied up
workers = [worker(5) for _ in range(3)]
endless = worker(10**6)
for _ in range(5):
    pay()
os.kill(endless, signal.SIGKILL)
os.waitpid(endless, 0)
workers.append(worker(5))
pay()
for pid in workers:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
pay()
"""


def test_workers_forked_from_a_loaded_application_share_its_run(scene, fake):
    """Master and workers all charge; one that is killed and replaced takes nothing with it."""
    with agent(scene, _PRELOADED) as master:
        assert master.wait(timeout=90) == 0

    assert _oracle.violations(scene, fake.journal.entries) == []
    counts = Counter(states(scene))
    assert counts["settled"] >= 28
    assert set(counts) <= {"settled", "reserved"}
    assert counts["reserved"] <= 1
    assert doubts(scene) == counts["reserved"]


_LEAVES = {
    "os._exit": "os._exit(0)",
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'sleep 60'])",
    "abort": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "sigterm": "os.kill(os.getpid(), signal.SIGTERM)",
}


@pytest.mark.parametrize("leave", _LEAVES)
def test_a_process_that_leaves_in_mid_call_leaves_it_in_doubt(scene, fake, leave):
    """Its call stays reserved, counts, and is listed as soon as its process is another, or none."""
    fake.inject(Fault("timeout_after", hang=30))
    code = f"threading.Thread(target=pay, daemon=True).start(); input(); {_LEAVES[leave]}"
    with agent(scene, code) as process:
        wait_for(fake.journal.moved)
        assert doubts(scene) == 0
        go(process)
        wait_for(lambda: doubts(scene) == 1)

    assert states(scene) == ["reserved"]
    assert _oracle.violations(scene, fake.journal.entries) == []


_FORKS_IN_MID_CALL = """
threading.Thread(target=pay).start()
input()
pid = os.fork()
if pid:
    print(pid, flush=True)
    if sys.argv[4] == "child leaves":
        os.waitpid(pid, 0)
        print("left", flush=True)
    else:
        time.sleep(60)
else:
    signal.alarm(60)
    pay()
    if sys.argv[4] == "child leaves":
        sys.exit(0)
    print("charged", flush=True)
    time.sleep(60)
"""


def go(process: subprocess.Popen[str]) -> None:
    """Let the process go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line it said."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_child_forked_in_mid_call_leaves_its_parents_call_alone(scene, fake):
    """It charges, tidies up and ends; the parent's call is neither ended by that nor in doubt."""
    fake.inject(Fault("slow", delay=30))
    with agent(scene, _FORKS_IN_MID_CALL, "child leaves") as parent:
        wait_for(fake.journal.moved)
        go(parent)
        assert said(parent).isdigit()
        assert said(parent) == "left"
        assert states(scene) == ["reserved", "settled"]
        assert doubts(scene) == 0
        fake.stop()  # the parent gets its answer now, or is cut off
        parent.wait(timeout=30)

    assert states(scene) in (["unknown", "settled"], ["settled", "settled"])
    assert _oracle.violations(scene, fake.journal.entries) == []


def test_a_parents_call_is_in_doubt_though_its_child_lives(scene, fake):
    """A child forked in mid-call does not keep up the appearance that its dead parent lives."""
    fake.inject(Fault("slow", delay=30))
    with agent(scene, _FORKS_IN_MID_CALL, "parent dies") as parent:
        wait_for(fake.journal.moved)
        go(parent)
        child = min(said(parent), said(parent))  # a digit comes before a letter
        try:
            assert doubts(scene) == 0
            parent.kill()
            wait_for(lambda: doubts(scene) == 1)
            os.kill(int(child), 0)
        finally:
            os.kill(int(child), signal.SIGKILL)

    assert states(scene) == ["reserved", "settled"]


# Another storm than that of Ctrl-C: two signals, and a handler that leaves as servers do.
_STORM = """
import random
class Leave(BaseException):
    pass
def leave(*_):
    raise Leave
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
from keybrake.ledger import Busy; from keybrake.ledger.stores.sqlite import ledger_files as _files
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
path = _files.path_of(ledger)
other = LedgerLock(_files.lock_path(path))  # a descriptor of its own: as another process would ask
begin, calm = threading.Event(), threading.Event()
def strike():
    begin.wait()
    while not calm.wait(random.uniform(0.0005, 0.004)):
        os.kill(os.getpid(), random.choice((signal.SIGTERM, signal.SIGINT)))
struck = held = 0
thread = threading.Thread(target=strike)
end = time.monotonic() + 2
thread.start()
while time.monotonic() < end:
    try:
        begin.set()
        while True:
            pay()
    except Leave:
        try:
            struck += 1
            other.acquire(0)
            other.release()
        except Leave:
            pass
        except Busy:
            held += 1
while True:
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        break
    except Leave:
        pass
calm.set()
thread.join()
print(struck, held, flush=True)
"""


def test_a_storm_of_signals_leaves_no_transaction_and_loses_no_row(scene, fake):
    """SIGTERM and SIGINT at any moment: the lock is free after each, and every charge has its row."""
    with agent(scene, _STORM) as process:
        struck, held = map(int, said(process).split())
        assert process.wait(timeout=30) == 0

    assert struck > 20
    assert held == 0
    assert _oracle.violations(scene, fake.journal.entries) == []
