"""What a seed lets an agent do: a cap, objects that exist before, and calls one after another or at once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.model.money import topics
from tests.model.money.desk import Call, Desk

MODES = ("tasks", "threads", "processes")
# How many of ten seeds have a vendor that loses answers.
UNLUCKY = 3


class Program(NamedTuple):
    """
    All that happens in one run.

    Attributes:
        cap: In cents.
        scene: Calls that somebody else made before the run.
        steps: Each is a list of branches, which run at once; a branch is a list of calls in order.
        loses: How often, of ten requests, the vendor loses an answer.
        retries: The SDK's ``max_network_retries``.
    """

    seed: int
    mode: str
    cap: int
    scene: tuple[Call, ...]
    steps: tuple[tuple[tuple[Call, ...], ...], ...]
    loses: int
    retries: int

    def calls(self) -> Iterator[Call]:
        """Yield every call of the agent's."""
        for step in self.steps:
            for branch in step:
                yield from branch

    def told(self) -> Iterator[str]:
        """Yield the program as lines that a person can follow."""
        yield f"seed {self.seed}: cap ${self.cap / 100:.2f}, {self.mode}, answers lost: {self.loses}/10"
        yield from (f"  before  {call}" for call in self.scene)
        for step in self.steps:
            if len(step) == 1:
                yield from (f"          {call}" for call in step[0])
                continue
            yield f"  at once, {len(step)} branches:"
            for number, branch in enumerate(step, start=1):
                yield from (f"      {number}.  {call}" for call in branch)


def program(seed: int) -> Program:
    """Return the program of a seed: the same at each time."""
    dice = random.Random(seed)
    cap = dice.randrange(10_00, 500_01)
    desk = Desk(dice, cap)
    scene = tuple(topics.scene(desk))
    steps = tuple(_steps(desk, dice.randrange(10, 41)))
    loses = dice.choice((1, 2, 3)) if dice.random() * 10 < UNLUCKY else 0
    mode = dice.choices(MODES, (5, 4, 2))[0]
    return Program(seed, mode, cap, scene, steps, loses, dice.choice((0, 0, 1)) if loses else 0)


def _steps(desk: Desk, most: int) -> Iterator[tuple[tuple[Call, ...], ...]]:
    """Yield steps of *most* calls in all: half of them alone, half of them beside others."""
    left = most
    while left > 0:
        about = topics.about(desk)
        count = 1 if desk.dice.random() < 0.4 else desk.dice.randrange(2, 5)
        branches = [tuple(_branch(desk, about)) for _ in range(count)]
        desk.next_step()
        step = tuple(branch for branch in branches if branch)
        if step:
            yield step
        left -= max(1, sum(map(len, step)))


def _branch(desk: Desk, about: topics.Topic) -> Iterator[Call]:
    """Yield one or two calls about one object."""
    for _ in range(1 if desk.dice.random() < 0.75 else 2):
        act = desk.dice.choice(about.acts)
        yield from (call for call in act(desk, about.name) if not _is_a_known_hole(call))


def _is_a_known_hole(call: Call) -> bool:
    """
    Return whether docs/reference/endpoints.md says of a call that it may move more than it counts.

    A new subscription, or a recurring quote, collects what others made wait for the customer; and
    a discount that goes makes dearer what waits beside a subscription.
    """
    recurring = call.name == "quotes.update" and {"$cheap", "$dear"} & set(_texts(call.params))
    return call.name in ("subscriptions.create", "customers.delete_discount") or bool(recurring)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested parameters."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def resolved(value: Any, ids: Mapping[str, str]) -> Any:
    """
    Return parameters with real ids in the place of ``$names``.

    Raises:
        KeyError: An object was never made, because its call was refused.
    """
    if isinstance(value, Mapping):
        return {name: resolved(inner, ids) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inner, ids) for inner in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    name, _, part = value[1:].partition(".")
    number = ids[name].partition("_")[2]
    # The stub gives a line, a charge and a first item the number of the object that they are of.
    return f"{_PARTS[part]}_{number}" if part else ids[name]


_PARTS = {"line": "il", "charge": "ch", "item": "si"}
