"""Hold what objects exist, and name what an endpoint is asked and hands back."""

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
    """What came with a request: its decoded body, its headers, the ids in its path."""

    params: Any
    headers: Mapping[str, str]
    ids: tuple[str, ...] = ()

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body, if it is an object; else nothing."""
        return self.params if isinstance(self.params, dict) else {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The body to answer with, its status, and what was sent."""

    body: Any
    status: int = 200
    move: Move | None = None


class Store:
    """
    Keep the objects by kind and id, oldest first.

    Not thread-safe by itself: the fake calls it under the lock that guards its state.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}

    def add(self, kind: str, fields: Mapping[str, Any]) -> Object:
        """Keep a new object of a *kind* under an id nobody has."""
        made = datetime.now(UTC).isoformat()
        thing = {"object": kind, "id": str(uuid.uuid4()), "created_at": made, **fields}
        self._objects.setdefault(kind, {})[thing["id"]] = thing
        return thing

    def all(self, kind: str) -> list[Object]:
        """Return every object of a *kind*, newest first."""
        return list(reversed(self._objects.get(kind, {}).values()))

    def find(self, kind: str, object_id: str) -> Object:
        """Return the object a path names."""
        found = self._objects.get(kind, {}).get(object_id)
        if found is None:
            raise not_found(kind)
        return found

    def remove(self, kind: str, object_id: str) -> Object:
        """Forget the object a path names."""
        self.find(kind, object_id)
        return self._objects[kind].pop(object_id)


def sent(
    kind: str, object_id: str, recipients: int, *, scheduled: bool = False, moved: bool = True
) -> Move:
    """Say that *recipients* get mail; they are what Resend counts, so they are the amount."""
    status = "scheduled" if scheduled else "sent"
    return Move(kind, object_id, recipients, "recipients", status, moved, recipients)
