"""Store the fake Stripe's objects, and the amount that each of them has committed."""

import random
import string
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from keybrake.testing.fake_stripe.errors import StripeFailure, not_found
from keybrake.testing.fake_stripe.params import Params, integer
from keybrake.testing.journal import Move

Object = dict[str, Any]

_BASE62: Final = string.digits + string.ascii_letters
_MAX_PAGE: Final = 100
_DEFAULT_PAGE: Final = 10
# Fields with the id of an object, and the kind of object that replaces it on expansion.
_EXPANDABLE: Final = {
    "latest_charge": "charge",
    "charge": "charge",
    "payment_intent": "payment_intent",
    "customer": "customer",
    "balance_transaction": "balance_transaction",
    "source_transaction": "charge",
    "invoice": "invoice",
    "latest_invoice": "invoice",
}


class Store:
    """
    Keep the objects by kind and id, oldest first.

    This class is not thread-safe: the fake calls it under its own lock.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}
        self._committed: dict[str, int] = {}
        self._dice = random.SystemRandom()
        # The card token of each payment method, by the method's id.
        self.tokens: dict[str, str] = {}

    def new_id(self, prefix: str, length: int = 24) -> str:
        """Return a new random id."""
        return f"{prefix}_{''.join(self._dice.choices(_BASE62, k=length))}"

    def add(self, thing: Object) -> Object:
        """Store *thing* under its kind and id."""
        self._objects.setdefault(thing["object"], {})[thing["id"]] = thing
        return thing

    def remove(self, thing: Object) -> None:
        """Remove an object entirely, without a record that it was deleted."""
        self._objects[thing["object"]].pop(thing["id"])

    def all(self, kind: str) -> list[Object]:
        """Return every object of a *kind*, newest first."""
        return list(reversed(self._objects.get(kind, {}).values()))

    def find(self, kind: str, object_id: str) -> Object:
        """Return an object by its id in a path, or raise Stripe's 404."""
        found = self._objects.get(kind, {}).get(object_id)
        if found is None:
            raise not_found(kind, object_id, kind if kind in _EXPANDABLE.values() else "id")
        return found

    def known(self, kind: str, object_id: str | None) -> Object | None:
        """Return an object by its id, or None if it does not exist or is deleted."""
        found = self._objects.get(kind, {}).get(str(object_id))
        return None if found is None or found.get("deleted") else found

    def refer(self, kind: str, params: Params, name: str | None = None) -> Object | None:
        """Return the object that a parameter names, or None if the parameter is missing."""
        name = name or kind
        object_id = params.get(name)
        if not object_id:
            return None
        found = self._objects.get(kind, {}).get(str(object_id))
        if found is None or found.get("deleted"):
            raise not_found(kind, str(object_id), name, status=400)
        return found

    def commit(self, kind: str, thing: Object, value: int, *, standing: int | None = None) -> Move:
        """
        Commit *value* for *thing*; only the increase over its highest value so far moves money.

        *standing* is the amount that it commits from now on, if that is not *value*.
        """
        before = self._committed.get(thing["id"], 0)
        more = max(value - before, 0)
        self._committed[thing["id"]] = max(before, value)
        return Move(
            kind=kind,
            object_id=thing["id"],
            amount=more or value,
            currency=thing["currency"],
            status=thing["status"],
            moved=more > 0,
            standing=value if standing is None else standing,
        )

    def no_move(self, kind: str, thing: Object, amount: int, *, standing: int) -> Move:
        """Return a move that commits no further money for *thing*."""
        counted = thing["id"] in self._committed
        return Move(
            kind=kind,
            object_id=thing["id"],
            amount=amount,
            currency=thing["currency"],
            status=thing["status"],
            moved=False,
            # An object that was declined on creation never committed anything.
            standing=standing if counted else 0,
        )

    def page(self, kind: str, url: str, params: Params, filters: Mapping[str, str]) -> Object:
        """Return one page of a list, newest first; *filters* maps parameters to fields."""
        limit = integer(params, "limit", least=1) or _DEFAULT_PAGE
        if limit > _MAX_PAGE:
            raise StripeFailure(message=f"limit is at most {_MAX_PAGE}.", param="limit")
        rows = [row for row in self.all(kind) if not row.get("deleted")]
        rows = [row for row in rows if _passes(row, params, filters)]
        if params.get("ending_before"):
            end = self._position(kind, rows, params, "ending_before")
            start = max(end - limit, 0)
            return _list(url, rows[start:end], has_more=start > 0)
        start = 0
        if params.get("starting_after"):
            start = self._position(kind, rows, params, "starting_after") + 1
        return _list(url, rows[start : start + limit], has_more=len(rows) > start + limit)

    def _position(self, kind: str, rows: list[Object], params: Params, name: str) -> int:
        cursor = str(params[name])
        for position, row in enumerate(rows):
            if row["id"] == cursor:
                return position
        raise not_found(kind, cursor, name, status=400)

    def expand(self, body: Object, paths: list[str]) -> Object:
        """
        Return *body*, with the ids at *paths* replaced by their objects.

        Unknown paths are ignored: the request has been carried out already, so an error would be
        misleading.
        """
        for path in paths:
            body = self._expand(body, str(path).split("."))
        return body

    def _expand(self, body: Object, names: list[str]) -> Object:
        if not names or names[0] not in body:
            return body
        name, *rest = names
        value = body[name]
        if isinstance(value, list):
            return {**body, name: [self._expand(item, rest) for item in value]}
        if isinstance(value, str) and name in _EXPANDABLE:
            value = self._objects.get(_EXPANDABLE[name], {}).get(value, value)
        if isinstance(value, dict):
            value = self._expand(value, rest)
        return {**body, name: value}


def now() -> int:
    """Return the time in whole seconds, Stripe's format."""
    return int(time.time())


def _list(url: str, rows: list[Object], *, has_more: bool) -> Object:
    return {"object": "list", "data": rows, "has_more": has_more, "url": url}


def _passes(row: Object, params: Params, filters: Mapping[str, str]) -> bool:
    for name, field in filters.items():
        if params.get(name) and row[field] != params[name]:
            return False
    created = params.get("created")
    if isinstance(created, Mapping):
        return all(
            _COMPARE[operator](row["created"], integer(created, operator) or 0)
            for operator in created
            if operator in _COMPARE
        )
    return created is None or row["created"] == integer(params, "created")


_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}
