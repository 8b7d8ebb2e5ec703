"""The state of the stub Stripe: its objects, and an account of the money that really moved."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Object = dict[str, Any]


class Declined(Exception):
    """The stub says no, and nothing happened."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Move(NamedTuple):
    """
    One movement of money.

    Attributes:
        kind: ``charge``, ``refund``, ``payout``, ``transfer``, ``reversal`` or ``credit``.
        event: The economic event that it belongs to.
        cents: Its amount, in cents of the US dollar.
        by_itself: Stripe moved it in the hour after the last request, without a further one.
    """

    kind: str
    event: str
    cents: int
    by_itself: bool


class World:
    """
    Everything that the stub Stripe knows.

    Attributes:
        objects: Every object by its id.
        moves: Every movement of money, in order.
        by_itself: Whether the hour passes now, in which nobody sends a request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.moves: list[Move] = []
        self.by_itself = False
        self._made = 0

    def new(self, prefix: str, kind: str, *, like: str | None = None, **fields: Any) -> Object:
        """Make an object. Its number is that of the object *like*, if one is given."""
        self._made += 1
        number = f"{self._made:06d}" if like is None else like.partition("_")[2]
        made = {"id": f"{prefix}_{number}", "object": kind, "livemode": False, "created": 1}
        made = {**made, "metadata": {}, **fields}
        self.objects[made["id"]] = made
        return made

    def get(self, object_id: Any, kind: str) -> Object:
        """Return the object of that id and kind."""
        found = self.objects.get(str(object_id))
        if found is None or found["object"] != kind:
            raise Declined(404, f"No such {kind}: '{object_id}'")
        return found

    def all(self, kind: str, **fields: Any) -> list[Object]:
        """Return the objects of a kind whose fields have these values, the oldest first."""
        return [
            made
            for made in self.objects.values()
            if made["object"] == kind and all(made.get(name) == fields[name] for name in fields)
        ]

    def move(self, kind: str, event: str, cents: int) -> None:
        """Write down that money moved."""
        if cents < 0:
            msg = f"{kind} of {event}: {cents} cents"
            raise AssertionError(msg)
        if cents:
            self.moves.append(Move(kind, event, cents, self.by_itself))

    def copy(self) -> World:
        """Return a world of its own that stands as this one stands now."""
        return copy.deepcopy(self)


def whole(value: Any, otherwise: int = 0) -> int:
    """Return a number that a form has as text."""
    if value is None or value == "":
        return otherwise
    try:
        return int(str(value))
    except ValueError:
        raise Declined(400, f"Invalid integer: {value}") from None


def amount(form: Mapping[str, Any], name: str = "amount") -> int:
    """Return a required amount that is not negative."""
    if form.get(name) in (None, ""):
        raise Declined(400, f"Missing required param: {name}.")
    cents = whole(form[name])
    if cents < 0:
        raise Declined(400, f"Invalid non-negative integer: {cents}")
    return cents


def flag(value: Any) -> bool:
    """Return a truth that a form has as text."""
    return str(value).lower() == "true"


def entries(value: Any) -> list[Any]:
    """Return a list that a form has as numbered entries; the empty text clears a list."""
    if value in (None, ""):
        return []
    return list(value.values()) if isinstance(value, dict) else list(value)


def fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a nested form."""
    yield from value.items() if isinstance(value, dict) else ()
