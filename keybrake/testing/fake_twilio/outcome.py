"""Name what an endpoint of the fake Twilio is asked, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keybrake.testing.fake_twilio.errors import missing
from keybrake.testing.fake_twilio.store import Store
from keybrake.testing.journal import Move


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: *params* have a list where a name was repeated."""

    store: Store
    path: str
    params: Mapping[str, Any]
    account: str

    def text(self, name: str, otherwise: str = "") -> str:
        """Return a parameter, or *otherwise* if it is not there."""
        value = self.params.get(name, otherwise)
        return str(value[-1] if isinstance(value, list) else value)

    def texts(self, name: str) -> list[str]:
        """Return every value of a parameter that may be repeated."""
        value = self.params.get(name, [])
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    def needed(self, name: str, code: int) -> str:
        """Return a parameter that has to be there."""
        if not self.text(name):
            raise missing(name, code)
        return self.text(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an endpoint answers, and what it did to a position."""

    body: dict[str, Any] | None
    move: Move | None = None
    status: int = 200
