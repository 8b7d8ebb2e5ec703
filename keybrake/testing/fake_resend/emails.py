"""Serve the endpoints for single emails and batches."""

import re
from collections.abc import Mapping
from typing import Any, Final

from keybrake.testing.fake_resend.errors import ResendFailure, invalid, missing, not_found
from keybrake.testing.fake_resend.store import Ask, Outcome, Store, sent
from keybrake.testing.journal import Move

_ADDRESS: Final = re.compile(r"[^@<>,;\s]+@[^@<>,;\s]+|[^@<>]*<[^@<>,;\s]+@[^@<>,;\s]+>")
_MOST_RECIPIENTS: Final = 50
_MOST_EMAILS: Final = 100
_FIELDS: Final = ("from", "to", "cc", "bcc", "subject", "html", "text", "scheduled_at", "tags")


def send(store: Store, ask: Ask) -> Outcome:
    """Send or schedule an email."""
    email = ask.fields
    count = recipients(email)
    made = _keep(store, email)
    scheduled = made["scheduled_at"] is not None
    return Outcome({"id": made["id"]}, 200, sent("email", made["id"], count, scheduled=scheduled))


def send_batch(store: Store, ask: Ask) -> Outcome:
    """Send up to 100 emails: all or none, or in permissive mode all the valid ones."""
    if not isinstance(ask.params, list) or not 0 < len(ask.params) <= _MOST_EMAILS:
        raise invalid(field="emails", why=f"It has to be a list of 1 to {_MOST_EMAILS} emails.")
    permissive = ask.headers.get("x-batch-validation", "strict") == "permissive"
    counts, errors = [], []
    for index, email in enumerate(ask.params):
        try:
            counts.append(recipients(email))
        except ResendFailure as failure:
            if not permissive:
                raise
            errors.append({"index": index, "message": str(failure)})
    wrong = {error["index"] for error in errors}
    good = [email for index, email in enumerate(ask.params) if index not in wrong]
    ids = [_keep(store, email)["id"] for email in good]
    body: dict[str, Any] = {"data": [{"id": email_id} for email_id in ids]}
    if permissive:
        body["errors"] = errors
    return Outcome(body, 200, sent("email", ids[0], sum(counts)) if ids else None)


def retrieve(store: Store, ask: Ask) -> Outcome:
    """Return an email."""
    return Outcome(store.find("email", ask.ids[0]))


def listed(store: Store, ask: Ask) -> Outcome:
    """List all emails, newest first."""
    del ask
    return Outcome({"object": "list", "data": store.all("email"), "has_more": False})


def update(store: Store, ask: Ask) -> Outcome:
    """Reschedule an email."""
    email = _scheduled(store, ask.ids[0])
    email["scheduled_at"] = ask.fields.get("scheduled_at")
    return Outcome({"object": "email", "id": email["id"]})


def cancel(store: Store, ask: Ask) -> Outcome:
    """Cancel a scheduled email."""
    email = _scheduled(store, ask.ids[0])
    email["last_event"] = "canceled"
    count = recipients(email)
    move = Move("email", email["id"], count, "recipients", "canceled", moved=False, standing=0)
    return Outcome({"object": "email", "id": email["id"]}, 200, move)


def recipients(email: Any) -> int:
    """Validate an email as Resend does, and return the number of its recipients."""
    if not isinstance(email, Mapping):
        raise invalid(field="emails", why="An email is an object.")
    for field in ("from", "to"):
        if not email.get(field):
            raise missing(field)
    if not (isinstance(email["from"], str) and _ADDRESS.fullmatch(email["from"])):
        raise invalid(
            field="from", why="It has to be `email@example.com` or `Name <email@example.com>`."
        )
    if not email.get("template") and not email.get("subject"):
        raise missing(field="subject")
    count = sum(addresses(email, field) for field in ("to", "cc", "bcc"))
    if count > _MOST_RECIPIENTS:
        raise invalid(field="to", why=f"There may be at most {_MOST_RECIPIENTS} recipients.")
    return count


def addresses(email: Mapping[str, Any], field: str) -> int:
    """Validate one address field, and return the number of its addresses."""
    given = email.get(field) or []
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list):
        raise invalid(field, "It has to be a text or a list of texts.")
    for address in listed:
        if not (isinstance(address, str) and _ADDRESS.fullmatch(address)):
            raise invalid(field, "It has to be `email@example.com` or `Name <email@example.com>`.")
    return len(listed)


def _keep(store: Store, email: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: email.get(name) for name in _FIELDS}
    return store.add("email", {**fields, "last_event": "delivered"})


def _scheduled(store: Store, email_id: str) -> dict[str, Any]:
    email = store.find("email", email_id)
    if email["scheduled_at"] is None or email["last_event"] == "canceled":
        raise not_found(kind="scheduled email")
    return email
