"""Data types of one call: the request, its price, the reply and the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple


class State(StrEnum):
    """The state of a call in the ledger."""

    REFUSED = "refused"
    RESERVED = "reserved"
    SETTLED = "settled"
    VOIDED = "voided"
    UNKNOWN = "unknown"
    UNGUARDED = "unguarded"


class Effect(StrEnum):
    """The effect of an endpoint on money."""

    READ = "read"
    MONEY = "money"
    FREE = "free"
    AUTHORITY = "authority"
    """Standing authority, such as an API key or an issued card: its later use cannot be priced."""
    UNCLASSIFIED = "unclassified"


class Meter(StrEnum):
    """The kind of money that a call moves; ``limits={"meter:outflow": …}`` caps one kind."""

    CHARGE_IN = "charge_in"
    OUTFLOW = "outflow"
    OWN_FUNDS = "own_funds"
    BALANCE_CREDIT = "balance_credit"
    USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Request:
    """
    One call as an HTTP request, before encoding.

    Attributes:
        vendor: ``stripe``, ``twilio`` or ``resend``.
        method: Upper case.
        url: Absolute, as the SDK would send it, but without the query of a GET.
        params: Body or query, not yet encoded; the same object that the SDK passed in.
        account: The vendor account that the call acts on, if the caller named one.
        owner: Fingerprint of the credential. The vendor keeps idempotency keys per account, so the
            ledger compares them per owner.
        idempotency_key: The caller's key, if any.
        refusal: Reason code and text, if the SDK hook already found that the call must be refused.
    """

    vendor: str
    method: str
    url: str
    params: Any
    account: str = ""
    owner: str = ""
    idempotency_key: str | None = None
    refusal: tuple[str, str] | None = None


def takes_key(method: str, path: str) -> bool:
    """
    Return whether the vendor honours an idempotency key on such a request.

    Vendors honour it on every POST, and Stripe's v2 API on DELETE as well. Stripe's v1 API ignores
    the key of a DELETE: two requests with the same key both take effect.
    """
    return method == "POST" or (method == "DELETE" and path.startswith("/v2/"))


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    A question that must be answered before a call can be priced.

    Attributes:
        known_as: Key of the position that has the answer, if the ledger knows that position.
        path: Path of the request to the vendor if the ledger does not; None: send no request.
        method: GET, or POST for a preview endpoint that changes nothing.
        params: Query or body of that request.
    """

    known_as: str | None = None
    path: str | None = None
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)


class Call(NamedTuple):
    """
    A request after classification: its endpoint and the most it can cost.

    A tuple, not a dataclass: the guard copies a call with changes several times, and
    ``_replace()`` of a tuple is cheaper.

    Attributes:
        endpoint: ``stripe.payment_intents.create``.
        path: Canonical path, without host and query.
        amount: In the vendor's minor unit, as sent; None: the request names no amount.
        value_micros: The most the position can be worth after this call, in micro-USD. None:
            the call does not change the position.
        position: Key of the position that the call acts on, if the request names it.
        usd_per_unit: The exchange rate that priced this call; its outcome uses the same rate.
        refusal: Reason code and text, if ``describe`` found that the call must be refused.
        lookup: The look-up to make before pricing, if the request alone is not enough.
            ``complete`` may ask for another one.
        gathered: Results of earlier look-ups for this call; only the vendor's module reads them.
        meter: The kind of money that the call moves.
        contingent_micros: The cost if a person later acts on the object, such as paying a link;
            recorded, but not counted against a cap.
        recurring: Whether the vendor repeats the charge in later periods, outside every run.
        offsets: Key of the position that a refund reduces, with ``refunds = "net"``.
        absorbs: Keys of positions that become part of this call's position, such as the items of
            an invoice. Money that the same run spent on them is not counted twice.
        priced_by: Keys of the vendor objects that a look-up read to price this call. While this
            call is open, the guard refuses calls that could raise the price of such an object.
        may_raise: Keys of the objects whose price this call can raise.
    """

    vendor: str
    endpoint: str
    method: str
    path: str
    effect: Effect
    amount: int | None = None
    currency: str | None = None
    value_micros: int | None = 0
    position: str | None = None
    account: str = ""
    usd_per_unit: Fraction | None = None
    refusal: tuple[str, str] | None = None
    lookup: Lookup | None = None
    idempotency_key: str | None = None
    owner: str = ""
    gathered: tuple[Any, ...] = ()
    meter: Meter | None = None
    contingent_micros: int | None = None
    recurring: bool = False
    offsets: str | None = None
    absorbs: tuple[str, ...] = ()
    priced_by: tuple[str, ...] = ()
    may_raise: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """
    One economic event at the vendor, as the ledger counts it.

    *in_doubt*: a write to it is in flight or unknown, so the vendor's state may differ.
    """

    key: str
    state: str
    value_micros: int
    currency: str | None
    usd_per_unit: Fraction | None
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP attempt of a call. *unsent*: there is proof that no byte left this machine."""

    status: int | None
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The vendor's answer to one call, after all its attempts.

    Attributes:
        status: Status of the last answer; None: no attempt got an answer.
        headers: Headers of the last answer, as the HTTP client spells them.
        body: Raw body of the last answer; None: it was streamed, or there was no answer.
        attempts: In order; empty if the SDK hook cannot see single attempts.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the last answer has a 2xx status."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def replayed(self) -> bool:
        """Whether the vendor marks the answer as a replay of an earlier one."""
        return any(
            name.lower() == "idempotent-replayed" and value.lower() == "true"
            for name, value in self.headers.items()
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a call ended.

    Attributes:
        state: settled, voided or unknown.
        position: Key of the position that the answer describes.
        position_state: open, in_flight, held, estimated, needs_human, settled or released.
        value_micros: The most that position can be worth now. None: the answer names no value, so
            the reservation becomes the cost.
        observed: The call was a read. It may lower a position; it may raise one only if its value
            was an estimate.
        replayed: The vendor replayed an earlier answer, which does not show the current state.
        conclusive: The outcome holds for every call with the same idempotency key.
        offsets: See ``Call.offsets``.
        absorbs: See ``Call.absorbs``.
        contingent_micros: See ``Call.contingent_micros``; None: keep the value of the call.
        currency: Current currency of the object; *usd_per_unit* is the rate behind *value_micros*.
        object_id: The vendor's id of the object.
    """

    state: State
    position: str | None = None
    position_state: str | None = None
    value_micros: int | None = None
    observed: bool = False
    replayed: bool = False
    conclusive: bool = False
    offsets: str | None = None
    absorbs: tuple[str, ...] = ()
    contingent_micros: int | None = None
    currency: str | None = None
    usd_per_unit: Fraction | None = None
    object_id: str | None = None
    http_status: int | None = None
    note: str | None = None


class InDoubt(NamedTuple):
    """
    A call without a known outcome. Money is in micro-USD, times are in microseconds.

    *request* is JSON. *process_lives*: the call is still reserved, and the process that admitted it
    is alive, so it may still settle the call.
    """

    seq: int
    uid: str
    at: int
    state: str
    run_id: str | None
    label: str | None
    vendor: str
    endpoint: str
    method: str
    path: str
    origin: str
    account: str
    owner: str
    request: str | None
    reserved: int
    amount: int | None
    currency: str | None
    usd_per_unit: str | None
    idempotency_key: str | None
    position: str | None
    object_id: str | None
    meter: str | None
    reason: str | None
    http_status: int | None
    process: str | None
    cost: int | None
    process_lives: bool = False

    @property
    def sent_key(self) -> str | None:
        """Return the idempotency key that was sent to the vendor; None: the request had none."""
        if not takes_key(self.method, self.path):
            return None
        return self.idempotency_key or f"kb-{self.uid}"


class Estimated(NamedTuple):
    """A position without a final price from the vendor yet, and the call that created it."""

    key: str
    value: int
    seq: int
    at: int
    run_id: str | None
    label: str | None
    vendor: str
    endpoint: str
    path: str
    origin: str
    account: str
    owner: str
    object_id: str | None


class Finding(NamedTuple):
    """
    The result of reconciling one call.

    Attributes:
        result: The state of the call now: settled, voided, estimated or unknown.
        cost_micros: The cost now; None: still unknown, so its reservation counts.
        words: The evidence, or the reason why there is none.
    """

    seq: int
    run_id: str | None
    label: str | None
    vendor: str
    endpoint: str
    result: str
    cost_micros: int | None
    words: str
