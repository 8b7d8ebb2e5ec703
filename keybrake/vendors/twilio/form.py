"""Read the parameters of a Twilio call, and refuse those that Twilio might read differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.model.shown import shown


class Unpriced(Exception):
    """
    The call has no price, so it must be refused.

    Attributes:
        refusal: The reason code and its text, in the form of ``Call.refusal``.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.refusal = (reason, words)


def no_rate(words: str) -> Unpriced:
    """Return the exception for a missing price."""
    return Unpriced("no_rate", words)


def unknown(words: str) -> Unpriced:
    """Return the exception for a request that says too little to price it."""
    return Unpriced("unknown_amount", words)


def invalid(words: str) -> Unpriced:
    """Return the exception for a parameter value of the wrong kind."""
    return Unpriced("invalid_amount", words)


class Form:
    """
    The parameters of one call by name, in any case.

    Raises:
        Unpriced: The parameters could be read in two ways.
    """

    def __init__(self, given: Any) -> None:
        if not isinstance(given, Mapping):
            words = "the parameters are not one dictionary"
            raise unknown(words)
        self._values: dict[str, Any] = {}
        for name, value in given.items():
            # Twilio has no nested parameters, so the meaning of a bracket is undefined.
            if not isinstance(name, str) or "[" in name or name.lower() in self._values:
                words = f"the parameter {shown(name)} is ambiguous"
                raise invalid(words)
            self._values[name.lower()] = value

    def __getitem__(self, name: str) -> Any:
        """Return a parameter as it was given; None: it is missing."""
        return self._values.get(name.lower())

    def text(self, name: str) -> str | None:
        """Return a parameter that may be given only once; None: it is missing."""
        found = self.texts(name)
        if len(found) > 1:
            words = f"there is more than one {name}"
            raise invalid(words)
        return found[0] if found else None

    def texts(self, name: str) -> list[str]:
        """Return every value of a parameter that may be repeated."""
        value = self[name]
        items = value if isinstance(value, list | tuple) else [value]
        return [_text(name, item) for item in items if item is not None]

    def says(self, name: str) -> bool:
        """Return whether a switch is on; every value but false, 0 and an empty text means on."""
        said = self[name]
        return said is not None and str(said).lower() not in ("false", "0", "")

    def seconds(self, name: str, otherwise: int) -> int:
        """Return a number of seconds; *otherwise* if it is missing or 0."""
        text = self.text(name)
        if text is None:
            return otherwise
        if not text.isascii() or not text.isdigit() or len(text) > 7:
            words = f"{name}={shown(text)} is not a number of seconds"
            raise invalid(words)
        return int(text) or otherwise


def _text(name: str, value: object) -> str:
    """Return a plain value as the SDK encodes it."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is int:
        return str(value)
    words = f"{name}={shown(value)} is not a text"
    raise invalid(words)
