"""What a torture run needs around it: a vendor of its own, runs that are open, shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stripe

import keybrake
from tests.races.torture.plan import Plan
from tests.races.torture.record import Progress

_LATENCY_S = "0.015"
# Seconds to wait for an answer: less than a fault hangs, more than a busy machine takes.
_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class Stage:
    """
    What all workers have in common.

    Attributes:
        url: Where the vendor listens.
        vendor: Its process.
        keys: The vault key of each run.
        uids: Its id.
        folder: Where the ledger and the journal are.
        stay: A pipe that is closed, at its other end *leave*, when the workers may go.
        broken: Which engine they use; "": the sound one.
    """

    plan: Plan
    url: str
    vendor: subprocess.Popen[str]
    keys: dict[str, str]
    uids: dict[str, str]
    folder: Path
    progress: Progress
    stay: int
    leave: int
    broken: str = ""

    @property
    def ledger(self) -> Path:
        """The file that is tried."""
        return self.folder / "ledger.db"

    @property
    def seen(self) -> Path:
        """The folder of the records."""
        return self.folder / "seen"


@contextlib.contextmanager
def set_up(plan: Plan, folder: Path, broken: str) -> Iterator[Stage]:
    """Open the runs of *plan*, and start the vendor for a block."""
    (folder / "seen").mkdir()
    os.environ["KEYBRAKE_LEDGER"] = f"sqlite:///{folder / 'ledger.db'}"
    keybrake.install()
    opened = _in_child(lambda: _open_runs(plan))
    keys = {run: key for run, (key, _) in opened.items()}
    uids = {run: uid for run, (_, uid) in opened.items()}
    progress = Progress(plan.pressure.processes)
    with _vendor(folder) as vendor:
        _warm_up(url := vendor.stdout.readline().strip())
        yield Stage(plan, url, vendor, keys, uids, folder, progress, *os.pipe(), broken)


def _warm_up(url: str) -> None:
    """
    Let the SDK do what it does in its first calls alone, before anything is forked.

    It imports modules and asks for the platform then. A child that is forked meanwhile finds
    Python's own locks held (importlib's of that module; functools.cached_property's in 3.11) and
    hangs: seen with stripe 16.1 in 3 of some 2,000 forks, on 2026-11-24. That is not what is
    tried here.
    """
    stripe.api_base, stripe.api_key = url, "sk_test_torture"
    stripe.default_http_client = own_client()
    stripe.Customer.create()
    with contextlib.suppress(stripe.StripeError):
        stripe.Customer.retrieve("cus_of_nobody")
    stripe.default_http_client.close()

    async def warm_up() -> None:
        await stripe.Customer.create_async()
        await stripe.default_http_client.close_async()

    asyncio.run(warm_up())


def own_client() -> stripe.HTTPClient:
    """Return a client of the SDK that no other process has a socket of."""
    in_tasks = stripe.HTTPXClient(timeout=_TIMEOUT_S)
    return stripe.RequestsClient(timeout=_TIMEOUT_S, async_fallback_client=in_tasks)


def _open_runs(plan: Plan) -> dict[str, tuple[str, str]]:
    keys = {}
    for run, cents in plan.caps.items():
        usd = f"{cents // 100}.{cents % 100:02}"
        # One has its cap per day, so that windows count, too.
        cap = {"daily_usd_cap": usd} if run == "daily" else {"cap": usd}
        key = keybrake.issue_vault_key(run, expires_in="12h", **cap)
        keys[run] = (str(key), key.run_id)
    return keys


def _in_child(work: Callable[[], Any]) -> Any:
    """Return what *work* returns in a forked child: the driver itself opens no ledger."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@contextlib.contextmanager
def _vendor(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.races.torture.vendor", "--latency", _LATENCY_S]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--journal", str(folder / "journal.jsonl")], stdin=pipe, stdout=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            # Not by closing its input: a process that hangs may have the other end of it.
            process.terminate()
            process.wait(timeout=20)
