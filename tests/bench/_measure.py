"""How a ratio is taken: in turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WARM_UP = 50


def interleaved(
    rounds: int, *works: Callable[[], object], before: Sequence[Callable[[], object]] = ()
) -> list[list[float]]:
    """
    Time each work once per round, in an order shuffled anew each round; microseconds.

    Args:
        rounds: How many, after a few that are not counted.
        works: What is timed.
        before: What is done at the begin of each round, untimed.
    """
    for _ in range(min(rounds, WARM_UP)):
        for work in (*before, *works):
            work()
    times: list[list[float]] = [[] for _ in works]
    order = list(range(len(works)))
    shuffle = random.Random(7).shuffle
    for _ in range(rounds):
        shuffle(order)
        for prepare in before:
            prepare()
        for index in order:
            began = time.perf_counter_ns()
            works[index]()
            times[index].append((time.perf_counter_ns() - began) / 1000)
    return times


def together(*times: Sequence[float]) -> list[float]:
    """Return what several works cost together, round by round."""
    return [sum(paired) for paired in zip(*times, strict=True)]


def ratio(times: Sequence[float], against: Sequence[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(times) / statistics.median(against)


def quantile(times: Sequence[float], share: float) -> float:
    """Return the smallest time that *share* of them do not exceed."""
    ordered = sorted(times)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of times; with *against*, also as a ratio to those."""

    what: str
    times: Sequence[float]
    against: Sequence[float] | None = None


TIMES_HEAD = ("µs", "p50", "p10", "p90", "p99", "ratio of p50", "of means")


def lines_of(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows as the cells of a table under ``TIMES_HEAD``."""
    lines = []
    for row in rows:
        cuts = (quantile(row.times, share) for share in (0.5, 0.1, 0.9, 0.99))
        ratios = ("", "")
        if row.against is not None:
            means = statistics.fmean(row.times) / statistics.fmean(row.against)
            ratios = (f"{ratio(row.times, row.against):.2f}", f"{means:.2f}")
        lines.append((row.what, *(f"{cut:,.1f}" for cut in cuts), *ratios))
    return lines
