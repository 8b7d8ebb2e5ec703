"""Where faults happen: processes that are quick to start, and strace to strike them at a system call."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from keybrake.testing import FakeStripe, Fault
from tests.faults import _acts
from tests.faults._acts import Act, Scene

# Forked from a process that has all of it loaded already, a child is there in milliseconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["pytest", "keybrake.ledger.stores.sqlite.ledger", "tests.faults._warm"]
)

# Starting one looks at all others, and does not expect another thread to do the same.
_CASTING = threading.Lock()

_PATIENCE_S = 60.0


class Actor:
    """A process that plays an act up to its ``yield``, and the rest when it is told to."""

    def __init__(self, scene: Scene, act: Act, engine: Callable[[], None] | None = None) -> None:
        self._stage, theirs = _PROCESSES.Pipe()
        said = (theirs, scene, act, engine)
        self.process = _PROCESSES.Process(target=_acts.play, args=said, daemon=True)
        with _CASTING:
            self.process.start()
        theirs.close()

    def __enter__(self) -> Self:
        assert (said := self._hear(self._stage)) == "ready", said
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with _CASTING:
            self.process.join()
            self.process.close()
        self._stage.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.process.pid is not None
        return self.process.pid

    def go(self) -> None:
        """Let it go on."""
        self._stage.send("go")

    def answer(self) -> Any:
        """Return what the act answered, ``done`` if nothing; None: the process died before."""
        try:
            return self._hear(self._stage)
        except (EOFError, ConnectionResetError):
            return None

    @staticmethod
    def _hear(stage: Connection) -> Any:
        assert stage.poll(_PATIENCE_S), f"not a word within {_PATIENCE_S:g} s"
        return stage.recv()


@contextlib.contextmanager
def traced(actor: Actor, *options: str) -> Iterator[None]:
    """Have strace watch the actor from here on, and strike as *options* say."""
    command = ["strace", "-f", "-p", str(actor.pid), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            strace.terminate()
            strace.stderr.read()


def traced_answer(actor: Actor, *options: str) -> Any:
    """Let the actor go on under strace, and return its answer; None: it was struck dead."""
    with traced(actor, *options):
        actor.go()
        return actor.answer()


def calls_of(actor: Actor, trace: Path, *options: str) -> list[str]:
    """Let the actor go on, and return its system calls as strace writes them down, in order."""
    assert traced_answer(actor, "-o", str(trace), *options) is not None
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text("utf-8").splitlines()]
    # The first is the wait for the word, the last the answer; signals are no calls.
    return [line for line in lines if line[:1].isalpha() and "resumed>" not in line]


@contextlib.contextmanager
def fake_vendor() -> Iterator[FakeStripe]:
    """Start a fake Stripe that loses the answers it is asked to lose."""
    with FakeStripe() as fake:
        lost = _acts.LOST.encode()
        fake.inject(Fault("error_500_after", when=lambda it: lost in it.body), times=None)
        yield fake


class Theatre:
    """A ledger with a run in it, as a template: each scene gets a copy of its own."""

    def __init__(self, folder: Path, vendor: str) -> None:
        self.vendor = vendor
        self._folder = folder
        self._template = folder / "template"
        self._template.mkdir(parents=True)
        self._scenes = 0
        scene = Scene(f"sqlite:///{self._template / 'ledger.db'}", vendor, None)
        with Actor(scene, _key) as actor:
            actor.go()
            self._key = actor.answer()

    def scene(self) -> Scene:
        """Return a scene on a ledger of its own."""
        self._scenes += 1
        folder = self._folder / f"scene-{self._scenes}"
        shutil.copytree(self._template, folder)
        return Scene(f"sqlite:///{folder / 'ledger.db'}", self.vendor, self._key)


def _key(scene: Scene) -> Iterator[Any]:
    import keybrake

    ledger: Any = _acts.ledger_of(scene)
    key = keybrake.issue_vault_key(
        _acts.LABEL, cap=_acts.CAP_USD, daily_usd_cap=_acts.CAP_USD, ledger=ledger
    )
    yield
    ledger.close()
    yield str(key)


def wait_for(what: Callable[[], Any], patience_s: float = _PATIENCE_S) -> Any:
    """Return what *what* returns, as soon as that is true."""
    end = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
    return found
