"""Serve the endpoints of an inbox: drafts, replies and forwarded messages."""

from keybrake.testing.fake_resend.emails import addresses
from keybrake.testing.fake_resend.errors import ResendFailure, missing
from keybrake.testing.fake_resend.store import Ask, Outcome, Store, sent

_FIELDS = ("to", "cc", "bcc", "subject", "html", "text")
# A reply always goes to the one sender of the original message.
_SENDER = 1


def create_draft(store: Store, ask: Ask) -> Outcome:
    """Create a draft."""
    fields = {name: ask.fields.get(name) for name in _FIELDS}
    lists = {name: _as_list(fields[name]) for name in ("to", "cc", "bcc")}
    made = store.add("inbox_draft", {**fields, **lists, "inbox": ask.ids[0], "email_id": None})
    return Outcome({"object": "inbox_draft", "id": made["id"]}, 201)


def retrieve_draft(store: Store, ask: Ask) -> Outcome:
    """Return a draft."""
    return Outcome(store.find("inbox_draft", ask.ids[1]))


def update_draft(store: Store, ask: Ask) -> Outcome:
    """Update a draft, unless it was sent."""
    draft = store.find("inbox_draft", ask.ids[1])
    if draft["email_id"] is not None:
        raise ResendFailure(name="invalid_state", message="The draft was sent already.", status=409)
    fields = {name: value for name, value in ask.fields.items() if name in _FIELDS}
    draft.update(fields)
    draft.update({name: _as_list(draft[name]) for name in ("to", "cc", "bcc")})
    return Outcome({"object": "inbox_draft", "id": draft["id"]})


def send_draft(store: Store, ask: Ask) -> Outcome:
    """Send a draft to its recipients."""
    draft = store.find("inbox_draft", ask.ids[1])
    if draft["email_id"] is not None:
        raise ResendFailure(name="invalid_state", message="The draft was sent already.", status=409)
    if not draft["to"]:
        raise missing(field="to")
    count = sum(addresses(draft, field) for field in ("to", "cc", "bcc"))
    outcome = _sent(store, count)
    draft["email_id"] = outcome.body["id"]
    return outcome


def reply(store: Store, ask: Ask) -> Outcome:
    """Reply to the sender of a message, with copies to the addresses in the request."""
    return _sent(store, _SENDER + sum(addresses(ask.fields, field) for field in ("cc", "bcc")))


def forward(store: Store, ask: Ask) -> Outcome:
    """Forward a message to the addresses in the request."""
    if not ask.fields.get("to"):
        raise missing(field="to")
    return _sent(store, sum(addresses(ask.fields, field) for field in ("to", "cc", "bcc")))


def _sent(store: Store, count: int) -> Outcome:
    made = store.add("email", {"scheduled_at": None, "last_event": "delivered"})
    return Outcome({"id": made["id"]}, 200, sent("email", made["id"], count))


def _as_list(given: object) -> object:
    return [given] if isinstance(given, str) else given or []
