"""What a guarded call of the real Stripe SDK costs, beside the same call unguarded."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

import stripe
import stripe._api_requestor  # loaded on first use, which must not be one with the hooks off

import keybrake
from keybrake.sdk import patch
from tests.bench._floor import Floor
from tests.bench._measure import TIMES_HEAD, WARM_UP, Row, interleaved, lines_of, ratio, together
from tests.bench._report import Aim, Section, table

_TEXT = """\
The real SDK over loopback, against the bundled fake in a process of its own, connections kept
alive. *Unguarded + raw ledger*: the same call without keybrake, and the raw ledger's two
transactions at the same durability, which whoever keeps a ledger pays."""


def measure(folder: Path, *, short: bool) -> Section:
    """Measure a guarded call, sync and async, against the unguarded one and the ledger's floor."""
    rounds = 100 if short else 1500
    with _fake_process() as url:
        sync, sync_aim = _sync(folder, rounds, url)
        tasks, tasks_aim = _async(folder, rounds, url)
    head = table(TIMES_HEAD, lines_of([*sync, *tasks]))
    return Section("A guarded call of the Stripe SDK", (_TEXT, head), (sync_aim, tasks_aim))


def _sync(folder: Path, rounds: int, url: str) -> tuple[list[Row], Aim]:
    floor = Floor(folder / "floor-sync.db", durability="power")
    with contextlib.closing(floor), _SyncCalls(folder / "sync.db", url) as calls:
        taken = interleaved(rounds, floor.call, calls.bare, calls.guarded)
        floor.check()
        calls.check(rounds)
    return _shown("sync", *taken)


def _async(folder: Path, rounds: int, url: str) -> tuple[list[Row], Aim]:
    floor = Floor(folder / "floor-async.db", durability="power")
    with (
        contextlib.closing(floor),
        _AsyncCalls(folder / "async.db", url) as calls,
        asyncio.Runner() as runner,
    ):
        taken = interleaved(
            rounds,
            floor.call,
            lambda: runner.run(calls.bare()),
            lambda: runner.run(calls.guarded()),
        )
        floor.check()
        calls.check(rounds)
        runner.run(calls.close())
    return _shown("async", *taken)


def _shown(
    way: str, raw: list[float], bare: list[float], guarded: list[float]
) -> tuple[list[Row], Aim]:
    least = together(raw, bare)
    rows = [
        Row(f"{way}, unguarded", bare),
        Row(f"{way}, unguarded + raw ledger", least),
        Row(f"{way}, guarded, to that", guarded, least),
    ]
    aim = f"stripe {way}, guarded, to unguarded + raw ledger"
    return rows, Aim(aim, ratio(guarded, least), most=1.15)


@contextlib.contextmanager
def _fake_process() -> Iterator[str]:
    """Run a fake Stripe in a process of its own, so that it shares no lock with us."""
    command = [sys.executable, "-m", "keybrake.testing.stripe", "--port", "0"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=10)


@contextlib.contextmanager
def _hooks_off() -> Iterator[None]:
    """Switch the hooks off as uninstall() does, without taking them out and in for each call."""
    patch._on = False
    try:
        yield
    finally:
        patch._on = True


class _Calls:
    def __init__(self, path: Path, url: str) -> None:
        stripe.api_key = "sk_test_bench"
        stripe.api_base = url
        self._run = keybrake.run("bench", cap=1_000_000, ledger=f"sqlite:///{path}")

    def __enter__(self) -> Self:
        self._run.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run.__exit__(kind, error, traceback)
        keybrake.uninstall()

    def check(self, rounds: int) -> None:
        """Assert that each guarded call was counted, and no other."""
        expected = Decimal(rounds + WARM_UP) / 2
        assert self._run.spent == expected, (self._run.spent, expected)


class _SyncCalls(_Calls):
    """``requests``, keep-alive."""

    def bare(self) -> None:
        """Make the call as if keybrake were not there."""
        with _hooks_off():
            stripe.PaymentIntent.create(amount=50, currency="usd")

    def guarded(self) -> None:
        """Make the call under the run."""
        stripe.PaymentIntent.create(amount=50, currency="usd")


class _AsyncCalls(_Calls):
    """httpx, keep-alive."""

    async def bare(self) -> None:
        """Make the call as if keybrake were not there."""
        with _hooks_off():
            await stripe.PaymentIntent.create_async(amount=50, currency="usd")

    async def guarded(self) -> None:
        """Make the call under the run."""
        await stripe.PaymentIntent.create_async(amount=50, currency="usd")

    async def close(self) -> None:
        """Close the client's connections while its loop is still there."""
        client = stripe.default_http_client
        if client is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                await client.close_async()
