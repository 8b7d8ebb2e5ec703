"""The Resend vendor: find the endpoint of a call, its cost by recipients, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import (
    Call,
    Effect,
    Lookup,
    Meter,
    Outcome,
    Position,
    Reply,
    Request,
    State,
)
from keybrake.model.shown import shown
from keybrake.vendors.attempts import Verdict, verdict
from keybrake.vendors.paths import EndpointTable, oddity, path_of
from keybrake.vendors.resend.answers import taken
from keybrake.vendors.resend.recipients import recipients

_BATCH = "resend.batch.send"
_DRAFT = "resend.inboxes.drafts.send"
_DRAFT_CHANGED = "resend.inboxes.drafts.update"
_REPLY = "resend.inboxes.threads.emails.reply"
# The request itself lists the recipients.
_EMAILS = {"resend.emails.send", "resend.inboxes.threads.emails.forward"}
_BROADCASTS = {
    "resend.broadcasts.create",
    "resend.broadcasts.update",
    "resend.broadcasts.send",
}
# Plans include a number of contacts and domains. Resend publishes no price for a single one, so
# they are free until the operator sets a price.
_FREE_UNLESS_PRICED = {"resend.contacts.create", "resend.domains.create"}
# The answer carries the id of the email or broadcast.
_NAMED = {*_EMAILS, *_BROADCASTS, _DRAFT, _REPLY}
# Endpoints that heed an idempotency key and repeat their first answer (resend.com, idempotency
# keys; the docstrings of resend 2.52.0 for inboxes). Elsewhere the same key sends again.
KEYED = {*_EMAILS, _BATCH, _DRAFT, _REPLY}


# resend 2.0 to 2.4 list audiences with a trailing slash, which oddity() refuses. It is a read that costs nothing, so
# accept it.
_OLD_AUDIENCE_LIST = "/audiences/"


class Resend:
    """See ``keybrake.vendors.Vendor``."""

    name = "resend"

    def __init__(self) -> None:
        self._table = EndpointTable.read("keybrake.vendors.resend", "endpoints.csv")

    def endpoints(self) -> frozenset[str]:
        """See ``Vendor.endpoints``."""
        return frozenset(row.endpoint for row in self._table.rows)

    def has_path(self, method: str, pattern: str) -> bool:
        """See ``Vendor.has_path``."""
        return self._table.could_be(method, pattern)

    def describe(self, request: Request, money: Money) -> Call:
        """See ``Vendor.describe``."""
        path = path_of(request.url)
        if request.method == "GET" and path == _OLD_AUDIENCE_LIST:
            path = _OLD_AUDIENCE_LIST[:-1]
        odd = oddity(path)
        row, ids = (None, ()) if odd else self._table.find(request.method, path)
        call = Call(
            vendor=self.name,
            endpoint=row.endpoint if row else f"resend.unlisted.{request.method.lower()}",
            method=request.method,
            path=path if odd is None else ascii(path)[1:200],
            effect=row.effect if row else _unlisted(request.method),
            account=request.account,
            owner=request.owner,
            idempotency_key=request.idempotency_key if row and row.endpoint in KEYED else None,
            refusal=request.refusal,
        )
        if odd and not call.refusal:
            words = f"the path {path!a:.100} is not in canonical form: {odd}"
            return call._replace(refusal=("path_not_canonical", words))
        if call.endpoint == _DRAFT_CHANGED:
            call = call._replace(may_raise=(self._key(call, ids[-1]),))
        if call.refusal or call.effect is not Effect.MONEY:
            return call
        usage = call._replace(meter=Meter.USAGE, currency="usd", usd_per_unit=Fraction(1))
        return self._priced(usage, request.params, ids, money)

    def _priced(  # noqa: PLR0911 -- one return per way a call is priced
        self, call: Call, params: Any, ids: tuple[str, ...], money: Money
    ) -> Call:
        if call.endpoint in _EMAILS:
            return _emails(call, [params], money)
        if call.endpoint == _BATCH:
            return _batch(call, params, money)
        if call.endpoint in _BROADCASTS:
            if call.endpoint.endswith(".send"):
                call = call._replace(position=self._key(call, ids[0]))
            return _broadcast(call, params, money)
        price = money.prices.exact(self.name, "endpoint", call.endpoint)
        if price is not None:
            return call._replace(value_micros=price)
        named = money.prices.rows.get((self.name, "endpoint"), {})
        if call.endpoint in _FREE_UNLESS_PRICED and call.endpoint not in named:
            return _free(call)
        if call.endpoint == _DRAFT:
            # The request names only the draft, so look the draft up for its recipients.
            lookup = Lookup(path=call.path.removesuffix("/send"))
            return call._replace(lookup=lookup, priced_by=(self._key(call, ids[-1]),))
        return call._replace(refusal=_unpriced(call))

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """See ``Vendor.complete``."""
        if call.endpoint != _DRAFT or call.refusal is not None:
            return call._replace(lookup=None)
        if isinstance(found, Position) or not found.get("to"):
            return call._replace(lookup=None, refusal=_unpriced(call))
        return _emails(call._replace(lookup=None), [found], money)

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``Vendor.outcome``."""
        del money  # describe() has already priced the emails
        ended = verdict(reply)
        if call.effect is Effect.READ:
            return Outcome(State.SETTLED, http_status=reply.status)
        if ended is Verdict.NOTHING_HAPPENED:
            # Not conclusive: Resend keeps no failures under an idempotency key, so this one says
            # nothing about an earlier call with the same key.
            return Outcome(State.VOIDED, http_status=reply.status)
        if ended is Verdict.UNKNOWN and (call.effect is not Effect.FREE or call.may_raise):
            return Outcome(State.UNKNOWN, http_status=reply.status)
        if call.effect is Effect.FREE:
            return Outcome(State.SETTLED, http_status=reply.status)
        if call.endpoint not in _NAMED and call.endpoint != _BATCH:
            return Outcome(State.SETTLED, conclusive=True, http_status=reply.status)
        return self._sent(call, reply)

    def _sent(self, call: Call, reply: Reply) -> Outcome:
        found = taken(call, reply, batch=call.endpoint == _BATCH)
        if found is None:
            note = "the answer was a success, but it has no id of the email"
            return Outcome(State.UNKNOWN, http_status=reply.status, note=note)
        key = call.position or (found.object_id and self._key(call, found.object_id))
        return Outcome(
            State.SETTLED,
            # A free call makes no position: a broadcast draft may be sent later, and counts then.
            position=key if call.value_micros else None,
            position_state="settled",
            value_micros=found.value_micros,
            # The caller gave no key: then keybrake's own key is unique to this call, and a replay
            # answers an earlier attempt of this same call.
            replayed=reply.replayed and call.idempotency_key is not None,
            conclusive=True,
            currency=call.currency,
            usd_per_unit=call.usd_per_unit,
            object_id=found.object_id,
            http_status=reply.status,
        )

    def _key(self, call: Call, object_id: str) -> str:
        return f"resend:{call.account}:{object_id}"


def _unlisted(method: str) -> Effect:
    return Effect.READ if method == "GET" else Effect.UNCLASSIFIED


def _free(call: Call) -> Call:
    return call._replace(effect=Effect.FREE, meter=None, currency=None, usd_per_unit=None)


def _emails(call: Call, emails: Sequence[Any], money: Money) -> Call:
    """Price emails by their recipients."""
    rate = money.prices.one("resend", "per_recipient")
    if rate is None:
        words = "there is no price for a recipient; a person has to add per_recipient to [prices.resend] in keybrake.toml"
        return call._replace(refusal=("no_rate", words))
    counted = [recipients(email) for email in emails]
    if None in counted:
        words = (
            "the recipients cannot be counted: to, cc and bcc must be strings or lists of strings"
        )
        return call._replace(refusal=("unknown_amount", words))
    values = tuple(number * rate for number in counted if number is not None)
    return call._replace(value_micros=sum(values), gathered=values)


def _batch(call: Call, params: Any, money: Money) -> Call:
    if not isinstance(params, list | tuple):
        words = f"a batch is a list of emails, and this is {shown(params)}"
        return call._replace(refusal=("unknown_amount", words))
    most = money.prices.one("resend", "batch_max")
    if most is not None and len(params) > most:
        words = (
            f"a batch of {len(params)} emails is more than batch_max = {most} in [prices.resend]"
        )
        return call._replace(refusal=("invalid_amount", words))
    return _emails(call, params, money)


def _broadcast(call: Call, params: Any, money: Money) -> Call:
    """
    Price a broadcast, whose audience the request does not show.

    A draft costs nothing. A send costs the operator's price for the endpoint. Without that price,
    a rate per recipient makes the cost unknown, so the call is refused. A rate of zero means that
    no cap would stop a broadcast, so the allowlist must name the endpoint exactly, unless the
    operator wrote the zero into keybrake.toml.
    """
    if not _goes_out(call, params):
        return _free(call)
    price = money.prices.exact("resend", "endpoint", call.endpoint)
    if price is not None:
        return call._replace(value_micros=price)
    if money.prices.one("resend", "broadcast_per_recipient") != 0:
        return call._replace(refusal=_unpriced(call))
    written_down = money.prices.rows["resend", "broadcast_per_recipient"][""].as_of is None
    return call if written_down else call._replace(effect=Effect.AUTHORITY, meter=None)


def _goes_out(call: Call, params: Any) -> bool:
    if call.endpoint.endswith(".send"):
        return True
    if not isinstance(params, Mapping):
        return params is not None
    return any(params.get(name) not in (None, False) for name in ("send", "scheduled_at"))


def _unpriced(call: Call) -> tuple[str, str]:
    return "unknown_amount", (
        f"the number of emails it sends is unknown; a person has to add {call.endpoint!r} to "
        f"[prices.resend.endpoint] in keybrake.toml, with the most that one call may cost"
    )
