"""What the writer of a program knows while writing it, and what a call is before it is made."""

from __future__ import annotations

import random
from typing import Any, NamedTuple


class Call(NamedTuple):
    """
    One call of the SDK.

    Attributes:
        name: The SDK's method.
        ids: What it is about: ``$name`` is the object that the call saved as *name* has made.
        params: As the SDK takes them.
        save: What its object is named for later calls.
    """

    name: str
    ids: tuple[str, ...] = ()
    params: dict[str, Any] | None = None
    save: str | None = None

    def __str__(self) -> str:
        saved = f"{self.save} = " if self.save else ""
        given = [*self.ids, *(f"{name}={value!r}" for name, value in (self.params or {}).items())]
        return f"{saved}{self.name}({', '.join(given)})"


class Desk:
    """
    What the writer of a program knows while writing it.

    Attributes:
        known: The names of the objects of each kind that earlier steps made.
        owner: The customer of each invoice, item, quote and subscription.
    """

    def __init__(self, dice: random.Random, cap: int) -> None:
        self.dice = dice
        self.cap = cap
        self.known: dict[str, list[str]] = {}
        self.owner: dict[str, str] = {}
        self._made: list[tuple[str, str]] = []
        self._count = 0

    def name(self, kind: str, owner: str | None = None) -> str:
        """Return a name for an object that a call of this step makes."""
        self._count += 1
        name = f"{kind}{self._count}"
        self._made.append((kind, name))
        if owner is not None:
            self.owner[name] = owner
        return name

    def next_step(self) -> None:
        """Let the next step use the objects that this step made."""
        for kind, name in self._made:
            self.known.setdefault(kind, []).append(name)
        self._made.clear()

    def one(self, kind: str, owner: str | None = None) -> str | None:
        """Return the name of an object of a kind, if there is any."""
        names = [name for name in self.known.get(kind, []) if owner in (None, self.owner.get(name))]
        return self.dice.choice(names) if names else None

    def cents(self) -> int:
        """Return an amount: most are small beside the cap, some are larger than all of it."""
        if self.dice.random() < 0.2:
            return int(self.cap * self.dice.uniform(0.6, 4))
        return max(60, int(self.cap * self.dice.uniform(0.01, 0.12)))
