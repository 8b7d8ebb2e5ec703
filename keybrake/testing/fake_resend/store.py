"""Store the fake Resend's objects, and define the input and output of its endpoints."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keybrake.testing.fake_resend.errors import not_found
from keybrake.testing.journal import Move

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """The input of an endpoint: the decoded body, the headers, and the ids in the path."""

    params: Any
    headers: Mapping[str, str]
    ids: tuple[str, ...] = ()

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body if it is a JSON object; otherwise an empty mapping."""
        return self.params if isinstance(self.params, dict) else {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output of an endpoint: the body, the HTTP status, and the effect on a position."""

    body: Any
    status: int = 200
    move: Move | None = None


class Store:
    """
    Keep the objects by kind and id, oldest first.

    This class is not thread-safe: the fake calls it under its own lock.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}

    def add(self, kind: str, fields: Mapping[str, Any]) -> Object:
        """Store a new object of a *kind* under a new id."""
        made = datetime.now(UTC).isoformat()
        thing = {"object": kind, "id": str(uuid.uuid4()), "created_at": made, **fields}
        self._objects.setdefault(kind, {})[thing["id"]] = thing
        return thing

    def all(self, kind: str) -> list[Object]:
        """Return every object of a *kind*, newest first."""
        return list(reversed(self._objects.get(kind, {}).values()))

    def find(self, kind: str, object_id: str) -> Object:
        """Return an object, or raise the failure for one that does not exist."""
        found = self._objects.get(kind, {}).get(object_id)
        if found is None:
            raise not_found(kind)
        return found

    def remove(self, kind: str, object_id: str) -> Object:
        """Remove an object and return it."""
        self.find(kind, object_id)
        return self._objects[kind].pop(object_id)


def sent(
    kind: str, object_id: str, recipients: int, *, scheduled: bool = False, moved: bool = True
) -> Move:
    """Return the move of sending mail; Resend counts recipients, so they are the amount."""
    status = "scheduled" if scheduled else "sent"
    return Move(kind, object_id, recipients, "recipients", status, moved, recipients)
