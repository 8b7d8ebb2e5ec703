"""Read the rules in ``endpoints.csv``, which say how each Stripe endpoint is counted."""

from __future__ import annotations

import csv
from typing import NamedTuple

from keybrake.model import data_files
from keybrake.model.call import Meter

FILE = "endpoints.csv"

Path = tuple[str, ...]


class Ask(NamedTuple):
    """A look-up: its path, and the *field* with the id for it (None: the id in the call's path)."""

    field: str | None
    path: str


class Rule(NamedTuple):
    """
    One line of the table. The head of the file explains each column.

    Attributes:
        left: Alternatives; each is one amount of the object looked up, minus the amounts after it.
        kept: The answer shows no amount, so the reservation becomes the cost.
    """

    kind: str
    meter: Meter | None
    amount: tuple[Path, ...]
    currency: Path
    asks: tuple[Ask, ...]
    left: tuple[tuple[Path, ...], ...]
    kept: bool


def read_rules() -> dict[str, Rule]:
    """Return the rule of each endpoint that has one."""
    return {
        row["endpoint"]: Rule(
            kind=row["rule"],
            meter=Meter(row["meter"]) if row["meter"] else None,
            amount=tuple(_path(where) for where in row["amount"].split()),
            currency=_path(row["currency"]),
            asks=tuple(_ask(ask) for ask in row["asks"].split()),
            left=tuple(_difference(text) for text in row["left"].split(" | ") if text),
            kept=row["answer"] == "kept",
        )
        for row in _rows()
        if row["rule"]
    }


def read_raises() -> dict[str, tuple[str, ...]]:
    """Return the objects that each endpoint can make dearer, as the table writes them."""
    return {row["endpoint"]: tuple(row["raises"].split()) for row in _rows() if row["raises"]}


def _rows() -> csv.DictReader[str]:
    text = data_files.read("keybrake.vendors.stripe", FILE)
    return csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


def _path(text: str) -> Path:
    return tuple(text.split(".")) if text else ()


def _ask(text: str) -> Ask:
    field, found, path = text.partition("=")
    return Ask(field, path) if found else Ask(None, field)


def _difference(text: str) -> tuple[Path, ...]:
    return tuple(_path(part) for part in text.split(" - "))
