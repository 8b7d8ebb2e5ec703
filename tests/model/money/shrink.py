"""Make a program that broke a promise as short as it can be: call by call is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.model.money.judge import Verdict
from tests.model.money.program import Program

# How calls that run at once interleave is not in the seed: a shorter program gets a few chances.
TRIES = 4


def shrunk(verdict: Verdict, judge: Callable[[Program], Verdict]) -> Verdict:
    """Return the verdict on the shortest program found that still breaks a promise."""
    was_shortened = True
    while was_shortened:
        was_shortened = False
        for shorter in _shorter(verdict.program):
            found = _broken(shorter, judge)
            if found is not None:
                verdict, was_shortened = found, True
                break
    return verdict


def _broken(program: Program, judge: Callable[[Program], Verdict]) -> Verdict | None:
    for _ in range(TRIES):
        verdict = judge(program)
        if verdict.broken:
            return verdict
    return None


def _shorter(program: Program) -> Iterator[Program]:
    """Yield the program without one step, then without one branch, then without one call before."""
    if program.loses:
        yield program._replace(loses=0, retries=0)
    for number in range(len(program.steps)):
        yield program._replace(steps=program.steps[:number] + program.steps[number + 1 :])
    for number, step in enumerate(program.steps):
        for gone in range(len(step) if len(step) > 1 else 0):
            kept = step[:gone] + step[gone + 1 :]
            steps = (*program.steps[:number], kept, *program.steps[number + 1 :])
            yield program._replace(steps=steps)
    for number in range(len(program.scene)):
        yield program._replace(scene=program.scene[:number] + program.scene[number + 1 :])
