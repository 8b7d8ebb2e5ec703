"""How many callers charge at once: processes, threads and tasks on one shared run."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import stripe

import keybrake

CENTS = 100


@contextlib.contextmanager
def fake_process(journal: Path, *options: str) -> Iterator[str]:
    """Run a fake Stripe in a process of its own and yield its URL; its journal is the oracle."""
    command = [sys.executable, "-m", "keybrake.testing.stripe", "--port", "0", "--journal"]
    with subprocess.Popen(
        [*command, str(journal), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(timeout=10)


@contextlib.contextmanager
def child(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run *script* in a Python of its own; it is killed at the end, whatever it is doing."""
    command = [sys.executable, "-c", script, *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def point_at(url: str) -> None:
    """Let the module-style SDK of this process talk to *url*, one attempt per call."""
    stripe.api_base, stripe.api_key, stripe.max_network_retries = url, "sk_test_races", 0
    stripe.default_http_client = None


def charge_until_refused(most: int) -> Counter[str]:
    """Charge a dollar up to *most* times, stopping at the first refusal; count what happened."""
    seen: Counter[str] = Counter()
    for _ in range(most):
        try:
            stripe.PaymentIntent.create(amount=CENTS, currency="usd")
        except keybrake.CapExceeded:
            seen["refused"] += 1
            break
        seen["sent"] += 1
    return seen


def in_processes(count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Run *work* in *count* new processes at once and return what each returned."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(count) as pool:
        return pool.starmap(work, [args] * count)


def agent_process(url: str, key: str, ledger: str, most: int) -> Counter[str]:
    """Be one agent process on a shared run."""
    point_at(url)
    os.environ["KEYBRAKE_LEDGER"] = ledger
    with keybrake.run(key=key):
        return charge_until_refused(most)


def in_threads(count: int, most: int) -> Counter[str]:
    """Charge from *count* threads of this process, which carry the run around this call."""
    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(charge_until_refused, [most] * count), Counter())


async def in_tasks(count: int, most: int) -> Counter[str]:
    """Charge from *count* tasks of one event loop."""

    async def task() -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(most):
            try:
                await stripe.PaymentIntent.create_async(amount=CENTS, currency="usd")
            except keybrake.CapExceeded:
                seen["refused"] += 1
                break
            seen["sent"] += 1
        return seen

    try:
        return sum(await asyncio.gather(*(task() for _ in range(count))), Counter())
    finally:
        if stripe.default_http_client is not None:
            await stripe.default_http_client.close_async()
