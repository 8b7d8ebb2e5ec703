"""How a ratio is taken: in turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WARM_UP = 50


def interleaved(rounds: int, *works: Callable[[], object]) -> list[list[float]]:
    """Time each work once per round, in an order shuffled anew each round; microseconds."""
    for _ in range(WARM_UP):
        for work in works:
            work()
    times: list[list[float]] = [[] for _ in works]
    order = list(range(len(works)))
    shuffle = random.Random(7).shuffle
    for _ in range(rounds):
        shuffle(order)
        for index in order:
            began = time.perf_counter_ns()
            works[index]()
            times[index].append((time.perf_counter_ns() - began) / 1000)
    return times


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; with *against*, a ratio of medians, and of the paired means."""

    what: str
    times: Sequence[float]
    against: Sequence[float] | None = None
    aim: float | None = None


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | median | p10 | p90 | p99 | ratio of medians | of means | aim |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cuts = statistics.quantiles(row.times, n=100)
        median = statistics.median(row.times)
        ratio = means = ""
        if row.against is not None:
            ratio = f"{median / statistics.median(row.against):.2f}"
            means = f"{statistics.fmean(row.times) / statistics.fmean(row.against):.2f}"
        aim = "" if row.aim is None else f"≤ {row.aim:g}"
        lines.append(
            f"| {row.what} | {median:,.1f} | {cuts[9]:,.1f} | {cuts[89]:,.1f} | {cuts[98]:,.1f} "
            f"| {ratio} | {means} | {aim} |"
        )
    return "\n".join(lines) + "\n"
