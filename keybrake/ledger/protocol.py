"""The protocol of a ledger, and the data types in its methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keybrake.model import clock
from keybrake.model.call import Call, Estimated, InDoubt, Outcome, Position, State
from keybrake.policy.policy import Terms

__all__ = [
    "Admission",
    "Admitted",
    "Busy",
    "Estimated",
    "InDoubt",
    "Ledger",
    "NewRun",
    "Note",
    "RunRecord",
    "Spoiled",
    "Stale",
]


class Busy(Exception):
    """Another thread or process holds the ledger's lock."""


class Spoiled(Exception):
    """Some work in a shared transaction failed, so nothing was written: repeat each work alone."""


class Stale(Exception):
    """An object at the vendor may have changed since its look-up: look it up and price again."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be opened. *lives_for* is in microseconds; None: it never expires."""

    uid: str
    label: str
    terms: Terms
    lives_for: int | None
    key_hash: bytes
    mode: str = "enforce"
    parent: int | None = None


class RunRecord(NamedTuple):
    """
    A run as it is in the ledger. Money is in micro-USD, times are in microseconds.

    *newest* is the time of the ledger's newest event.
    """

    pk: int
    uid: str
    label: str
    parent_uid: str | None
    mode: str
    opened_at: int
    expires_at: int | None
    closed_at: int | None
    revoked_at: int | None
    paused_at: int | None
    cap: int | None
    spent: int
    reserved: int
    calls: int
    refused: int
    newest: int | None = None

    @property
    def remaining(self) -> int | None:
        """Return the cap minus spent and reserved; None if the run has no cap."""
        return None if self.cap is None else max(0, self.cap - self.spent - self.reserved)

    def state(self) -> str:
        """Return open, paused, expired, closed or revoked, by ledger time."""
        if self.revoked_at is not None:
            return "revoked"
        if self.closed_at is not None:
            return "closed"
        # Ledger time never runs backwards, even if the wall clock does.
        now = max(clock.now(), self.newest or 0)
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "open" if self.paused_at is None else "paused"


@dataclass(frozen=True, slots=True)
class Admission:
    """
    A call that asks to be admitted.

    Attributes:
        scopes: Primary keys of all scopes that are charged; the run comes first.
        origin: Scheme, host and port of the request.
        request: Parameters as JSON, kept until the outcome is known.
        as_of: Number of the newest event when the first look-up began; None: there was no look-up.
        may_repeat: Whether the caller can repeat its look-ups. If so, an outdated look-up raises
            ``Stale``; if not, it is refused.
    """

    uid: str
    call: Call
    scopes: tuple[int, ...]
    tool: str | None = None
    origin: str = ""
    request: str | None = None
    as_of: int | None = None
    may_repeat: bool = False


class Admitted(NamedTuple):
    """
    The reservation of a call, with all that is needed to end it.

    Attributes:
        tracked: Key of the position that the call writes to, if the ledger knew it on admission.
        leans_on: An earlier attempt with the same idempotency key, whose amount covers this call.
        write_ended: Whether the open write on the position has been ended already.
        contingent_micros: See ``Call.contingent_micros``.
        staked: Whether ``stakes.begin`` wrote rows for the call.
    """

    seq: int
    scopes: tuple[int, ...]
    buckets: tuple[tuple[int, int, int], ...]
    reserved: int
    tracked: str | None = None
    leans_on: int | None = None
    write_ended: bool = False
    contingent_micros: int | None = None
    staked: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A row without a charge: a look-up, an unguarded call, or a refusal outside every run."""

    uid: str
    call: Call
    state: State
    reason: str
    run: int | None = None
    tool: str | None = None
    http_status: int | None = None


class Ledger(Protocol):
    """
    The ledger decides on calls and keeps their rows.

    A method with *wait* raises ``Busy`` instead of waiting when that is False. Every method raises
    ``LedgerUnavailable`` when the ledger cannot be read or written.
    """

    url: str

    def open_run(self, new: NewRun, *, wait: bool = True) -> int:
        """Write a new run and return its primary key; its parents must be open."""

    def join(self, key_hash: bytes) -> RunRecord | None:
        """Return the run of a vault key, given the key's hash."""

    def close_run(self, pk: int, *, wait: bool = True) -> None:
        """Close a run at the end of its block."""

    def revoke(self, uid: str) -> None:
        """Revoke a run for good: the next call of any process is refused."""

    def pause(self, uid: str) -> None:
        """Pause a run: its calls are refused until ``resume``."""

    def resume(self, uid: str) -> None:
        """
        Resume a paused run.

        Raises:
            PolicyError: The vault key of that run, or of one below or above it, binds this process.
        """

    def tool(self, run: int, name: str, terms: Terms, *, wait: bool = True) -> int:
        """Return the primary key of a tool's scope within a run; the first use makes the scope."""

    def chain(self, pk: int) -> tuple[int, ...]:
        """Return a scope and all its parents, innermost first."""

    def run(self, pk: int) -> RunRecord:
        """Return a run as it is now."""

    def runs(self, uid: str | None = None, label: str | None = None) -> Sequence[RunRecord]:
        """Return the runs, oldest first; with *uid* or *label*, only those that match."""

    def position(self, key: str) -> Position | None:
        """Return a position, or None if the ledger does not know it."""

    def newest_event(self) -> int:
        """Return the number of the newest event, to be passed as ``Admission.as_of``."""

    def refuses(self, admission: Admission) -> bool:
        """Return whether a call would be refused at any cost; writes nothing."""

    def admit(self, admission: Admission, *, wait: bool = True) -> Admitted:
        """
        Decide and reserve in one transaction; a refusal is recorded and then raised.

        Raises:
            CallRefused: The call must not be sent.
            Stale: An object that priced the call may have changed; nothing was written.
        """

    def settle(self, admitted: Admitted, outcome: Outcome, *, wait: bool = True) -> None:
        """Replace a reservation by its outcome."""

    def together(self, *, durable: bool, wait: bool) -> AbstractContextManager[None]:
        """
        Put all writes of this thread inside the block into one transaction.

        Raises:
            Spoiled: One of the writes failed, so nothing was written.
        """

    def note(self, note: Note, *, wait: bool = True) -> None:
        """Write a row without a charge."""

    def in_doubt(self, seq: int | None = None) -> Sequence[InDoubt]:
        """
        Return the calls in doubt, oldest first; see ``doubts.among``.

        With *seq*, return that call in any state, or nothing if there is none.
        """

    def resolve(self, seq: int, outcome: Outcome, evidence: str, *, proven: bool = False) -> None:
        """
        End a call in doubt, on the evidence of the vendor or of a person.

        Args:
            seq: Number of the call in the call log.
            outcome: Its outcome.
            evidence: The source of that knowledge; kept with the call.
            proven: Whether the vendor's answer proves the outcome. Otherwise it is a person's word,
                which this process must not give if the vault key of the same run binds it.

        Raises:
            PolicyError: It is a person's word, and the vault key of the same run binds this process.
            LedgerError: The call has ended already, may still be under way, or a later call that
                leans on it must be resolved first.
        """

    def estimated(self) -> Sequence[Estimated]:
        """Return the positions without a final price, oldest first."""

    def observe(self, note: Note, outcome: Outcome) -> None:
        """Record a look-up outside every call, and recount the position that it shows."""
