"""
Ask Twilio about a call of unknown outcome, or for the price of a position.

Twilio has no idempotency keys, so a call cannot be repeated safely. Its lists of messages and
phone calls can be searched by To and From instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Estimated, InDoubt, Outcome, Reply, State
from keybrake.model.clock import MINUTE, SECOND
from keybrake.vendors.inquiry import Inquiry, Judge, body_of, call_of, kept_of, shown_as_answer

# The list that shows the object a request created (the same path), and the field with its items.
_LISTS = {"/Messages.json": "messages", "/Calls.json": "calls"}
# Objects that show their price later, by the prefix of their sid. The endpoint does not tell: a
# conference participant, for example, is a phone call (CA).
_PRICED = {"SM": "Messages", "MM": "Messages", "CA": "Calls", "RE": "Recordings"}
_BEFORE, _AFTER = MINUTE, 5 * MINUTE
_PAGE = 50


class TwilioInquirer:
    """See ``keybrake.vendors.Inquirer``."""

    def __init__(self, twilio: Judge) -> None:
        self._twilio = twilio

    def inquiries(self, doubt: InDoubt, now: int) -> Sequence[Inquiry]:
        """See ``Inquirer.inquiries``."""
        del now
        sent = _sent(doubt)
        if _kind(doubt) is None or not sent.get("To"):
            return []
        query = {"To": sent["To"], "PageSize": _PAGE}
        if sent.get("From"):
            query["From"] = sent["From"]
        return [Inquiry("GET", doubt.path, query)]

    def findings(
        self, doubt: InDoubt, inquiry: Inquiry, reply: Reply, money: Money
    ) -> Sequence[Outcome]:
        """See ``Inquirer.findings``."""
        del inquiry
        listed = body_of(reply).get(_kind(doubt) or "", ())
        if not isinstance(listed, list):
            return []
        sent = _sent(doubt)
        ended = [
            self._twilio.outcome(call_of(doubt), shown_as_answer(thing), money)
            for thing in listed
            if isinstance(thing, dict) and _may_be(thing, sent, doubt)
        ]
        return [one for one in ended if one.state is State.SETTLED and one.position is not None]

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """See ``Inquirer.price_inquiry``; the prefix of the sid tells the kind of object."""
        sid = estimated.object_id or ""
        kind = _PRICED.get(sid[:2])
        if kind is None or not estimated.account:
            return None
        return Inquiry("GET", f"/2010-04-01/Accounts/{estimated.account}/{kind}/{sid}.json")


def _kind(doubt: InDoubt) -> str | None:
    return next((kind for end, kind in _LISTS.items() if doubt.path.endswith(end)), None)


def _sent(doubt: InDoubt) -> Mapping[str, Any]:
    sent = kept_of(doubt).get("params")
    return sent if isinstance(sent, dict) else {}


def _may_be(thing: Mapping[str, Any], sent: Mapping[str, Any], doubt: InDoubt) -> bool:
    """Return whether the call could have created *thing*: same text, created at that time."""
    if str(thing.get("direction", "")).startswith("inbound"):
        return False
    if "Body" in sent and thing.get("body") != sent["Body"]:
        return False
    try:
        made = parsedate_to_datetime(str(thing.get("date_created")))
    except ValueError:
        return False
    at = datetime.fromtimestamp(doubt.at / SECOND, UTC)
    before, after = (timedelta(microseconds=span) for span in (_BEFORE, _AFTER))
    return at - before <= made.astimezone(UTC) <= at + after
