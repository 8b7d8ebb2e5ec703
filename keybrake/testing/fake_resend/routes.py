"""Map a method and path to the endpoint that answers it."""

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from keybrake.testing.fake_resend import audiences, emails, inboxes
from keybrake.testing.fake_resend.errors import ResendFailure
from keybrake.testing.fake_resend.store import Ask, Outcome, Store

Endpoint = Callable[[Store, Ask], Outcome]


def _create_key(store: Store, ask: Ask) -> Outcome:
    made = store.add("api_key", {"name": ask.fields.get("name")})
    return Outcome({"id": made["id"], "token": f"re_{secrets.token_hex(8)}"}, 201)


def _list_keys(store: Store, ask: Ask) -> Outcome:
    del ask
    return Outcome({"object": "list", "data": store.all("api_key"), "has_more": False})


def _send_event(store: Store, ask: Ask) -> Outcome:
    del store
    return Outcome({"object": "event", "event": ask.fields.get("event")}, 202)


_ROUTES: Final[Mapping[str, Endpoint]] = {
    "POST /emails": emails.send,
    "POST /emails/batch": emails.send_batch,
    "GET /emails": emails.listed,
    "GET /emails/*": emails.retrieve,
    "PATCH /emails/*": emails.update,
    "POST /emails/*/cancel": emails.cancel,
    "POST /broadcasts": audiences.create_broadcast,
    "GET /broadcasts/*": lambda store, ask: Outcome(store.find("broadcast", ask.ids[0])),
    "PATCH /broadcasts/*": audiences.update_broadcast,
    "POST /broadcasts/*/send": audiences.send_broadcast,
    "POST /broadcasts/*/cancel": audiences.cancel_broadcast,
    "POST /segments": audiences.create_segment,
    "GET /segments/*/contacts": audiences.list_contacts,
    "POST /contacts": audiences.create_contact,
    "GET /contacts": audiences.list_contacts,
    "POST /events/send": _send_event,
    "POST /inboxes/*/drafts": inboxes.create_draft,
    "GET /inboxes/*/drafts/*": inboxes.retrieve_draft,
    "PATCH /inboxes/*/drafts/*": inboxes.update_draft,
    "POST /inboxes/*/drafts/*/send": inboxes.send_draft,
    "POST /inboxes/*/threads/*/emails/*/reply": inboxes.reply,
    "POST /inboxes/*/threads/*/emails/*/forward": inboxes.forward,
    "POST /api-keys": _create_key,
    "GET /api-keys": _list_keys,
}
_PATTERNS: Final = tuple(
    (re.compile(re.escape(route).replace(r"\*", "([^/]+)")), endpoint)
    for route, endpoint in _ROUTES.items()
)
# The paths that honour an idempotency key (resend.com, "Idempotency Keys"; resend 2.52.0, inboxes).
KEYED: Final = re.compile(
    r"/emails(/batch)?|/inboxes/[^/]+/(drafts(/[^/]+/send)?|threads/[^/]+/emails/[^/]+/(reply|forward))"
)


def find(method: str, path: str) -> tuple[Endpoint, tuple[str, ...]]:
    """Return the endpoint for *method* and *path*, and the ids in the path."""
    for pattern, endpoint in _PATTERNS:
        match = pattern.fullmatch(f"{method} {path}")
        if match:
            return endpoint, match.groups()
    raise ResendFailure(
        name="not_found", message=f"There is nothing at {method} {path}.", status=404
    )
