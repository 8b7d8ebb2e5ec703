"""Define the input and the output of the fake Twilio's endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keybrake.testing.fake_twilio.errors import missing
from keybrake.testing.fake_twilio.store import Store
from keybrake.testing.journal import Move


@dataclass(frozen=True, slots=True)
class Ask:
    """The input of an endpoint; the value of a repeated parameter in *params* is a list."""

    store: Store
    path: str
    params: Mapping[str, Any]
    account: str

    def text(self, name: str, otherwise: str = "") -> str:
        """Return a parameter, or *otherwise* if it is missing."""
        value = self.params.get(name, otherwise)
        return str(value[-1] if isinstance(value, list) else value)

    def texts(self, name: str) -> list[str]:
        """Return all values of a parameter that may be repeated."""
        value = self.params.get(name, [])
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    def needed(self, name: str, code: int) -> str:
        """Return a required parameter."""
        if not self.text(name):
            raise missing(name, code)
        return self.text(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output of an endpoint: the body, the effect on a position, and the HTTP status."""

    body: dict[str, Any] | None
    move: Move | None = None
    status: int = 200
