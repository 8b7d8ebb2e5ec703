"""A Python whose clock is somebody else's: libfaketime reads the time from a file at every look."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/*/faketime/libfaketime.so.1")


class Clock:
    """A clock that tests set; its steps are felt at once by every process that looks at it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set("+0")

    def show(self, moment: str) -> None:
        """Set it to a moment in UTC, as ISO 8601 has it; it ticks on from there."""
        ahead = datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)
        self.set(f"{ahead.total_seconds():+.0f}")

    def set(self, when: str) -> None:
        """Set it by how far it is ahead: ``-3d`` is three days behind the real one."""
        draft = self._path.with_suffix(".new")
        draft.write_text(f"{when}\n", "ascii")
        draft.replace(self._path)

    def environment(self, zone: str) -> dict[str, str]:
        """Return what a process needs to live by this clock, in a time zone."""
        return {
            **os.environ,
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "TZ": zone,
        }


def _library() -> Path:
    for pattern in _LIBRARIES:
        for found in Path("/").glob(pattern[1:]):
            return found
    msg = "libfaketime is not there: apt-get install faketime"
    raise FileNotFoundError(msg)


class Agent:
    """A process that does what it is told, line by line, and answers each with a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, line: str) -> str:
        """Have it do one thing, and return what came of it."""
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        """Have it do one thing; its answer is not waited for."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Wait for its answer."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def agent(clock: Clock, vendor: str, ledger: str, zone: str = "UTC") -> Iterator[Agent]:
    """Start an agent that lives by *clock*; it ends with the block."""
    command = [sys.executable, "-W", "ignore", "-c", _AGENT, vendor, ledger]
    pipe = subprocess.PIPE
    environment = clock.environment(zone)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            made = Agent(process)
            assert made.answer() == "ready"
            yield made
        finally:
            process.kill()


# Answers "sent", or by which refusal it ended.
_AGENT = """
import sys
import keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_x", 0
keys = {}
def issue(name, **policy):
    keys[name] = str(keybrake.issue_vault_key(name, ledger=sys.argv[2], **policy))
    return keys[name]
def pay(name):
    with keybrake.run(key=keys.get(name, name), ledger=sys.argv[2]):
        stripe.PaymentIntent.create(amount=100, currency="usd")
    return "sent"
keybrake.install()
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except keybrake.KeybrakeError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""
