"""What does a Twilio call say: its parameters, each read in one way or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.model.shown import shown


class Unpriced(Exception):
    """
    What a call costs cannot be said.

    Attributes:
        refusal: The reason and its words, as ``Call.refusal`` has them.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.refusal = (reason, words)


def no_rate(words: str) -> Unpriced:
    """Say which price is missing."""
    return Unpriced("no_rate", words)


def unknown(words: str) -> Unpriced:
    """Say that the call does not tell enough."""
    return Unpriced("unknown_amount", words)


def invalid(words: str) -> Unpriced:
    """Say that a value is not what the vendor wants there."""
    return Unpriced("invalid_amount", words)


class Form:
    """
    The parameters of one call, by name; the case of a name does not matter.

    Raises:
        Unpriced: They could be read in two ways.
    """

    def __init__(self, given: Any) -> None:
        if not isinstance(given, Mapping):
            words = "the parameters are not one dictionary"
            raise unknown(words)
        self._values: dict[str, Any] = {}
        for name, value in given.items():
            # Twilio nests nothing; what a bracket would mean to it nobody knows.
            if not isinstance(name, str) or "[" in name or name.lower() in self._values:
                words = f"the parameter {shown(name)} is ambiguous"
                raise invalid(words)
            self._values[name.lower()] = value

    def __getitem__(self, name: str) -> Any:
        """Return a parameter as it was given; None: it was not."""
        return self._values.get(name.lower())

    def text(self, name: str) -> str | None:
        """Return a parameter that stands once; None: it was not given."""
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
        """Return whether a switch is on; whatever is not plainly off is on."""
        said = self[name]
        return said is not None and str(said).lower() not in ("false", "0", "")

    def seconds(self, name: str, otherwise: int) -> int:
        """Return a number of seconds as sent; *otherwise*: none is given."""
        text = self.text(name)
        if text is None:
            return otherwise
        if not text.isascii() or not text.isdigit() or len(text) > 7:
            words = f"{name}={shown(text)} is not a number of seconds"
            raise invalid(words)
        return int(text) or otherwise


def _text(name: str, value: object) -> str:
    """Return what goes over the wire for a plain value."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is int:
        return str(value)
    words = f"{name}={shown(value)} is not a text"
    raise invalid(words)
