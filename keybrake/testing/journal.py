"""Record the true effects of requests on a fake vendor, even if the client saw an error."""

import dataclasses
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Move:
    """
    The effect of a request on one position, or the effect that a failed request was meant to have.

    Attributes:
        kind: ``charge``, ``refund``, ``transfer`` or ``payout``.
        object_id: The vendor's id of the position.
        amount: The amount that moved, in minor units; if none did, the amount of the request.
        currency: The currency code in lower case.
        status: The status of the object after the request.
        moved: Whether the position now commits more money than ever before.
        standing: The amount that the position commits from now on.

    """

    kind: str
    object_id: str
    amount: int
    currency: str
    status: str
    moved: bool
    standing: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    One request, recorded before its answer is sent.

    ``http_status`` is None when the client got no answer. ``key_prefix`` is the kind of key that
    the request carried (``sk_``, ``rk_``, ``re_``, ``kb_``, ``other`` or ``none``); the key itself
    is never stored.
    """

    seq: int
    at: str
    method: str
    path: str
    idempotency_key: str | None
    params: Mapping[str, Any]
    moved: bool
    kind: str | None
    object_id: str | None
    amount: int | None
    currency: str | None
    standing: int | None
    status: str | None
    http_status: int | None
    replayed: bool
    fault: str | None
    key_prefix: str
    request_id: str | None

    def as_json(self) -> str:
        """Return the entry as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


class Journal:
    """
    Record every request in memory and, if *path* is given, as lines in a file.

    Each line is one unbuffered write, so that another process can read the file at any time.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._entries: list[JournalEntry] = []
        self._path = path
        self._file: FileIO | None = None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the journal that another process has written to *path* so far."""
        journal = cls()
        text = Path(path).read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        journal._entries = [JournalEntry(**json.loads(line)) for line in complete.splitlines()]
        return journal

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """All entries so far, oldest first."""
        with self._lock:
            return tuple(self._entries)

    def moved(self, kind: str | None = None) -> list[JournalEntry]:
        """Return the entries that moved money, of one *kind* or of all."""
        return [entry for entry in self.entries if entry.moved and kind in {None, entry.kind}]

    def total(self, kind: str | None = None, *, currency: str | None = None) -> int:
        """Return the sum of all movements, in minor units; later releases are not subtracted."""
        return sum(
            entry.amount or 0 for entry in self.moved(kind) if currency in {None, entry.currency}
        )

    def standing(self, kind: str | None = None, *, currency: str | None = None) -> int:
        """Return the amount that all positions commit now, less releases and cancellations."""
        latest = {
            entry.object_id: entry.standing
            for entry in self.entries
            if entry.standing is not None
            and kind in {None, entry.kind}
            and currency in {None, entry.currency}
        }
        return sum(latest.values())

    def write(self, **facts: Any) -> JournalEntry:
        """Append an entry with the next number, and return it."""
        with self._lock:
            at = datetime.now(UTC).isoformat()
            entry = JournalEntry(seq=len(self._entries) + 1, at=at, **facts)
            self._entries.append(entry)
            if self._path is not None:
                self._append_line(self._path, entry)
        return entry

    def close(self) -> None:
        """Close the file; the next entry opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _append_line(self, path: str | Path, entry: JournalEntry) -> None:
        if self._file is None:
            self._file = FileIO(path, "a")
        self._file.write(f"{entry.as_json()}\n".encode())


def as_dicts(entries: Iterable[JournalEntry]) -> list[dict[str, Any]]:
    """Return *entries* as plain dictionaries, ready for JSON."""
    return [dataclasses.asdict(entry) for entry in entries]
