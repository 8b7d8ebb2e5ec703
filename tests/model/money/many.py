"""Play many seeds in a few processes, and say in words what became of them."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.model.money.judge import Verdict, judged
from tests.model.money.play import OtherProcess
from tests.model.money.program import Program, program
from tests.model.money.shrink import shrunk
from tests.model.money.vendor import Server, serving


class Table:
    """The server and the second process of one process that plays programs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._other: OtherProcess | None = None

    def judge(self, program: Program) -> Verdict:
        """Play one program."""
        if program.mode == "processes" and self._other is None:
            self._other = OtherProcess()
        return judged(program, self._server, self._other)

    def close(self) -> None:
        """End the second process."""
        if self._other is not None:
            self._other.close()


@contextlib.contextmanager
def table() -> Iterator[Table]:
    """Serve a stub, and play beside it."""
    with serving() as server:
        made = Table(server)
        try:
            yield made
        finally:
            made.close()


def many(seeds: Iterable[int], jobs: int = 1, *, shrink: bool = False) -> Iterator[Verdict]:
    """Play the programs of *seeds*, in order, in as many processes as there are *jobs*."""
    if jobs == 1:
        with table() as made:
            for seed in seeds:
                yield _verdict(made, seed, shrink=shrink)
        return
    given = list(seeds)
    blocks = [given[number::jobs] for number in range(jobs)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for verdicts in pool.map(functools.partial(_block, shrink=shrink), blocks):
            yield from verdicts


def _block(seeds: list[int], *, shrink: bool) -> list[Verdict]:
    # stripe's async client hands its body to httpx in a way that httpx has deprecated.
    warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
    with table() as made:
        return [_verdict(made, seed, shrink=shrink) for seed in seeds]


def _verdict(made: Table, seed: int, *, shrink: bool) -> Verdict:
    verdict = made.judge(program(seed))
    return shrunk(verdict, made.judge) if shrink and verdict.broken else verdict


def told(verdict: Verdict) -> str:
    """Return what happened in a program, line by line, so that it can be played again."""
    ended = [
        f"  {one.how:8} {one.call.name}({', '.join(one.call.ids)}) {one.why} {one.made}".rstrip()
        for one in verdict.ended
    ]
    events = [f"  ${cents / 100:,.2f} {event}" for event, cents in verdict.events.items()]
    lines = [*verdict.program.told(), "ended:", *ended, "moved:", *events]
    return "\n".join([*lines, f"seed {verdict.program.seed}: {verdict.broken}", ""])


def summed(verdicts: list[Verdict]) -> str:
    """Return one line about all of them."""
    within = sum(verdict.moved <= verdict.program.cap for verdict in verdicts)
    kept = sum(verdict.broken is None for verdict in verdicts)
    refused = sum((verdict.refused for verdict in verdicts), Counter())
    needed = sum((verdict.needed for verdict in verdicts), Counter())
    how = Counter(one.how for verdict in verdicts for one in verdict.ended)
    ended = ", ".join(f"{how[word]:,} {word}" for word in ("done", "declined", "unknown"))
    reasons = [
        f"{reason} {count:,} ({needed[reason]:,} needed)" for reason, count in refused.most_common()
    ]
    return (
        f"{len(verdicts)} runs: moved ≤ cap in {within}, counted ≥ moved and verify sound in {kept}, "
        f"{how.total() - how['skipped']:,} calls ({ended}), "
        f"{how['refused']:,} refused: {', '.join(reasons) or 'none'}; "
        "needed: let through alone, it would have moved more than the cap"
    )
