"""The nouns: what a call is on its way in, what it is known to be, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple


class State(StrEnum):
    """How a call stands in the ledger."""

    REFUSED = "refused"
    RESERVED = "reserved"
    SETTLED = "settled"
    VOIDED = "voided"
    UNKNOWN = "unknown"
    UNGUARDED = "unguarded"


class Effect(StrEnum):
    """What sort of thing an endpoint does, as far as money is concerned."""

    READ = "read"
    MONEY = "money"
    FREE = "free"
    AUTHORITY = "authority"
    """Standing authority: what is done with it later cannot be priced."""
    UNCLASSIFIED = "unclassified"


class Meter(StrEnum):
    """Which kind of money a call is about; ``limits={"meter:outflow": …}`` caps one of them."""

    CHARGE_IN = "charge_in"
    OUTFLOW = "outflow"
    OWN_FUNDS = "own_funds"
    BALANCE_CREDIT = "balance_credit"
    USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Request:
    """
    One call as HTTP would carry it, before it is encoded.

    Attributes:
        vendor: ``stripe``, ``twilio`` or ``resend``.
        method: Upper case.
        url: Where it goes, absolute, as the SDK would send it, without the query of a read.
        params: Body or query, not yet encoded. The door hands down exactly this object.
        account: The vendor account it acts on, where the caller named one.
        owner: Fingerprint of the credential: an idempotency key means something to one owner only.
        idempotency_key: The caller's own, if any.
        refusal: A reason the door already found that this call may not go out, and its words.
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
    Return whether the vendor heeds an idempotency key of such a request.

    Every POST has one, and so has a DELETE of Stripe's v2 API. Stripe's v1 API ignores the key of a
    DELETE: two that carry the same key are two requests.
    """
    return method == "POST" or (method == "DELETE" and path.startswith("/v2/"))


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    What has to be known before a call can be priced.

    Attributes:
        known_as: Key of a position that answers it, if the ledger has that position.
        path: What to ask the vendor for otherwise; None: do without.
        method: GET, or POST where the vendor has a preview that changes nothing.
        params: Query or body of that look-up.
    """

    known_as: str | None = None
    path: str | None = None
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)


class Call(NamedTuple):
    """
    What a request is, and what it can cost at most.

    A tuple rather than a dataclass: it is refined several times on its way, and this is the
    cheapest thing to copy with a change.

    Attributes:
        endpoint: ``stripe.payment_intents.create``.
        path: Canonical, without host and query.
        amount: In the vendor's minor unit, as sent; None where the request names none.
        value_micros: The most the position can be worth after this call, in micro-USD. None:
            the call changes nothing about the position.
        position: Key of the position the call acts on, where the request says it.
        usd_per_unit: The rate this call was priced with, frozen for its outcome.
        refusal: A reason this call may not go out, found while describing it, and its words.
        lookup: What to find out first, where the request alone does not say enough. ``complete``
            may ask for one more.
        gathered: What earlier look-ups of this call brought; the vendor's own business.
        meter: Which kind of money it is about.
        contingent_micros: What it may come to if a person acts on it; recorded, not counted.
        recurring: More of it follows in later periods, outside of every run.
        offsets: Key of the position that a refund takes back, where refunds count net.
        absorbs: Keys of positions that become a part of this call's, such as items of an invoice:
            what the same run spent on them is not counted again.
        priced_by: Keys of the objects at the vendor whose state a look-up read to price this call.
            While the call is open, nothing may make one of them dearer.
        may_raise: Keys of the objects that this call can make dearer for a call priced by them.
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

    *in_doubt*: a write on it is under way or unknown, so the vendor may know more by now.
    """

    key: str
    state: str
    value_micros: int
    currency: str | None
    usd_per_unit: Fraction | None
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP attempt of a call: a status, or no answer and whether it provably never left."""

    status: int | None
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What came back for one call, over all its attempts.

    Attributes:
        status: Of the last answer; None if none came.
        headers: Of the last answer, as the HTTP client spells them.
        body: Undecoded; None if it was streamed or never came.
        attempts: In order. Empty when the door could not see them.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the last answer says that it was done."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def replayed(self) -> bool:
        """Whether the vendor says that it only repeats what it answered before."""
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
        position: Key of the position the answer speaks of.
        position_state: open, in_flight, held, estimated, needs_human, settled or released.
        value_micros: What that position is worth now at most. None: the answer says nothing new,
            the reservation becomes the cost.
        observed: The call only looked: a position may shrink by it, and grow only from an estimate.
        replayed: The vendor repeated an older answer: it says nothing about how things are now.
        conclusive: It speaks for every call that was made under the same idempotency key.
        offsets: See ``Call.offsets``.
        absorbs: See ``Call.absorbs``.
        contingent_micros: See ``Call.contingent_micros``; None: what the call said stands.
        currency: That of the object now; *usd_per_unit* is the rate *value_micros* was made with.
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
    A call whose outcome nobody knows yet; money and moments in micros. *request*: JSON.

    *process_lives*: it is still reserved, and the process that admitted it may yet end it.
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
        """Return the idempotency key that the vendor knows it by; None: the request had none."""
        if not takes_key(self.method, self.path):
            return None
        return self.idempotency_key or f"kb-{self.uid}"


class Estimated(NamedTuple):
    """A position whose price the vendor has yet to name, and the call that was charged for it."""

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
    What reconciling found about one call.

    Attributes:
        result: settled, voided, estimated or unknown: how it stands now.
        cost_micros: What it costs now; None: nobody knows, its reservation counts.
        words: The evidence, or why there is none.
    """

    seq: int
    run_id: str | None
    label: str | None
    vendor: str
    endpoint: str
    result: str
    cost_micros: int | None
    words: str
