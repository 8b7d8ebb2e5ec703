"""
Does the real engine keep its promises through thousands of seeded lives.

``python -m tests.model.simulate [--seed N] [--count N] [--broken NAME]``. A seed that breaks a
promise is printed; ``--seed N`` alone tells its life again, step by step.
"""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import pytest

from keybrake.guard import reconcile
from tests.model._aftermath import end
from tests.model._broken import BROKEN
from tests.model._invariants import Violation
from tests.model._life import Life
from tests.model._world import empty_ledger, world

# Verifying the chain takes as long as a life: every so many are.
VERIFY_EVERY = 8


class Lived(NamedTuple):
    """One life. *broken*: the promise that was, if any; *calls*: how they ended; *told*: the story."""

    seed: int
    steps: int
    calls: Counter[str]
    broken: str | None
    told: list[str]


def live(seed: int, broken: str | None = None) -> Lived:
    """Live the life of *seed* from beginning to end, with the engine broken in one way or in none."""
    with world(seed) as made, pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # What could not be written down is told to the user; here that is meant to happen.
        warnings.simplefilter("ignore", RuntimeWarning)
        if broken is not None:
            BROKEN[broken](patch)
        found: str | None = None
        life = Life(made)
        patch.setattr(reconcile, "ask", life.ask)
        try:
            life.live()
            end(life, thorough=seed % VERIFY_EVERY == 0)
        except Violation as violation:
            found = str(violation)
        calls = Counter(str(call["state"]) for call in made.eyes.seen.calls.values())
        return Lived(seed, life.steps, calls, found, made.told)


def many(seeds: Iterable[int], broken: str | None = None, *, jobs: int = 1) -> Iterator[Lived]:
    """Live the lives of *seeds*, in order, in as many processes as there are *jobs*."""
    logging.disable(logging.CRITICAL)
    one = functools.partial(live, broken=broken)
    try:
        if jobs == 1:
            yield from map(one, seeds)
            return
        empty_ledger()  # made here, where somebody takes it away again
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
            yield from pool.map(one, seeds, chunksize=8)
    finally:
        logging.disable(logging.NOTSET)


def main(arguments: list[str]) -> int:
    """Live as many lives as asked, and print the rate and the seeds that broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; alone: this one, told in full")
    parser.add_argument("--count", type=int, help="how many seeds (1000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--broken", choices=BROKEN, help="break the engine in this way")
    asked = parser.parse_args(arguments)
    if asked.seed is not None and asked.count is None:
        lived = next(many([asked.seed], asked.broken))
        print(*lived.told, sep="\n")
        print(f"seed {lived.seed}, {lived.steps} steps: {lived.broken or 'every promise kept'}")
        return 3 if lived.broken else 0
    first = asked.seed or 0
    seeds = range(first, first + (asked.count or 1000))
    return _summed(seeds, many(seeds, asked.broken, jobs=asked.jobs))


def _summed(seeds: range, lives: Iterable[Lived]) -> int:
    began, steps, failed = time.monotonic(), 0, 0
    calls: Counter[str] = Counter()
    for lived in lives:
        steps += lived.steps
        calls += lived.calls
        if lived.broken:
            failed += 1
            print(f"seed {lived.seed}: {lived.broken}", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(
        f"{len(seeds)} lives from seed {seeds.start}: {steps:,} steps, {calls.total():,} calls "
        f"({', '.join(f'{count:,} {state}' for state, count in sorted(calls.items()))}); "
        f"{failed} broke a promise; {len(seeds) / minutes:,.0f} lives and {steps / minutes:,.0f} "
        f"steps a minute"
    )
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
