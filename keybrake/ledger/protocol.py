"""What every ledger promises, and the nouns it speaks in."""

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
    """Somebody else holds the ledger's lock."""


class Spoiled(Exception):
    """One of several pieces of work failed, so none of them was written: do each by itself."""


class Stale(Exception):
    """An object changed since it was looked up, so the call has to be priced anew."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be opened. *lives_for* in microseconds; None: for ever."""

    uid: str
    label: str
    terms: Terms
    lives_for: int | None
    key_hash: bytes
    mode: str = "enforce"
    parent: int | None = None


class RunRecord(NamedTuple):
    """A run as the ledger has it; money and moments in micros. *newest*: its newest call's time."""

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
        """Return what is left of the cap; None: there is none."""
        return None if self.cap is None else max(0, self.cap - self.spent - self.reserved)

    def state(self) -> str:
        """Return open, paused, expired, closed or revoked, by ledger time."""
        if self.revoked_at is not None:
            return "revoked"
        if self.closed_at is not None:
            return "closed"
        # The newest call keeps ledger time from running backwards.
        now = max(clock.now(), self.newest or 0)
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "open" if self.paused_at is None else "paused"


@dataclass(frozen=True, slots=True)
class Admission:
    """
    A call that asks to be admitted.

    Attributes:
        scopes: The run first, then outwards, by primary key.
        origin: Where it goes: scheme, host and port.
        request: Its parameters as JSON, kept until its outcome is known.
        as_of: Number of the newest event when its first look-up began; None: nothing was looked up.
        may_repeat: Whether a look-up that is out of date is to be repeated, rather than refused.
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
    A reservation: what has to be ended, and where it is counted.

    Attributes:
        tracked: The position it is a write on, if the ledger counted that when it was admitted.
        leans_on: The call under the same idempotency key that is counted in its stead.
        let_go: Its write on the position has been ended already.
        contingent_micros: What it may come to cost in another account.
        staked: Whether it was priced by an object, or can make one dearer.
    """

    seq: int
    scopes: tuple[int, ...]
    buckets: tuple[tuple[int, int, int], ...]
    reserved: int
    tracked: str | None = None
    leans_on: int | None = None
    let_go: bool = False
    contingent_micros: int | None = None
    staked: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A row that charges nothing: a look-up, an unguarded call, a refusal outside of every run."""

    uid: str
    call: Call
    state: State
    reason: str
    run: int | None = None
    tool: str | None = None
    http_status: int | None = None


class Ledger(Protocol):
    """
    The store that decides and remembers.

    Every method that takes *wait* raises ``Busy`` instead of waiting when it is False. A ledger
    that cannot do its work raises ``LedgerUnavailable``.
    """

    url: str

    def open_run(self, new: NewRun, *, wait: bool = True) -> int:
        """Write a run down and return its primary key; its parents have to be alive."""

    def join(self, key_hash: bytes) -> RunRecord | None:
        """Return the run a vault key stands for."""

    def close_run(self, pk: int, *, wait: bool = True) -> None:
        """End a run because its block has ended."""

    def revoke(self, uid: str) -> None:
        """End a run for good; it binds the next call of any process."""

    def pause(self, uid: str) -> None:
        """Stop a run for a while."""

    def resume(self, uid: str) -> None:
        """
        Let a paused run go on.

        Raises:
            PolicyError: The vault key of that run, or of one below or above it, binds this process.
        """

    def tool(self, run: int, name: str, terms: Terms, *, wait: bool = True) -> int:
        """Return the scope of a tool within a run, making it on first use."""

    def chain(self, pk: int) -> tuple[int, ...]:
        """Return a scope and everything it stands under, innermost first."""

    def run(self, pk: int) -> RunRecord:
        """Return a run as it is now."""

    def runs(self, uid: str | None = None, label: str | None = None) -> Sequence[RunRecord]:
        """Return the runs, oldest first; with *uid*, that one; with *label*, those that have it."""

    def position(self, key: str) -> Position | None:
        """Return a position, if the ledger counts it."""

    def newest_event(self) -> int:
        """Return the number of the newest event: what is looked up from now on is no older."""

    def refuses(self, admission: Admission) -> bool:
        """Return whether a call would be refused whatever it costs; writes nothing."""

    def admit(self, admission: Admission, *, wait: bool = True) -> Admitted:
        """
        Decide and reserve in one transaction, or raise the refusal, which is on record.

        Raises:
            Stale: What priced the call may have changed since; nothing was written.
        """

    def settle(self, admitted: Admitted, outcome: Outcome, *, wait: bool = True) -> None:
        """Replace a reservation by its outcome."""

    def together(self, *, durable: bool, wait: bool) -> AbstractContextManager[None]:
        """
        Let all that this thread asks inside the block be one transaction; durable if one of it is.

        Raises:
            Spoiled: One piece of it failed, so nothing was written.
        """

    def note(self, note: Note, *, wait: bool = True) -> None:
        """Write down a row that charges nothing."""

    def in_doubt(self, seq: int | None = None) -> Sequence[InDoubt]:
        """Return the calls that are unknown or still reserved, oldest first; with *seq*, that call."""

    def resolve(self, seq: int, outcome: Outcome, evidence: str, *, proven: bool = False) -> None:
        """
        End a call whose outcome has become known, by a person's word or the vendor's.

        Args:
            seq: Its number in the call log.
            outcome: How it ended.
            evidence: How that is known; kept with the call.
            proven: The vendor's answer proves it. A person's word is refused under the run's own key.

        Raises:
            PolicyError: It is a person's word, and the vault key of the same run binds this process.
            LedgerError: It has ended already, may still be under way, or another call that counts
                on it is not resolved yet.
        """

    def estimated(self) -> Sequence[Estimated]:
        """Return the positions that wait for their price, oldest first."""

    def observe(self, note: Note, outcome: Outcome) -> None:
        """Write down a look at the vendor outside of every call, and what it says of a position."""
