"""What a guarded call of the real Stripe SDK costs, beside the same call unguarded."""

from __future__ import annotations

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
from keybrake.sdk import _patch
from tests.bench._measure import WARM_UP


@contextlib.contextmanager
def fake_process() -> Iterator[str]:
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
    _patch._on = False
    try:
        yield
    finally:
        _patch._on = True


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


class SyncCalls(_Calls):
    """``requests``, keep-alive."""

    def bare(self) -> None:
        """Make the call as if keybrake were not there."""
        with _hooks_off():
            stripe.PaymentIntent.create(amount=50, currency="usd")

    def guarded(self) -> None:
        """Make the call under the run."""
        stripe.PaymentIntent.create(amount=50, currency="usd")


class AsyncCalls(_Calls):
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
