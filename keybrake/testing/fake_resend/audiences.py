"""Serve the endpoints for contacts, segments and broadcasts."""

from typing import Any

from keybrake.testing.fake_resend.errors import invalid, missing
from keybrake.testing.fake_resend.store import Ask, Outcome, Store, sent
from keybrake.testing.journal import Move

_BROADCAST = ("name", "segment_id", "audience_id", "from", "subject", "html", "text")


def create_segment(store: Store, ask: Ask) -> Outcome:
    """Create an empty segment."""
    if not ask.fields.get("name"):
        raise missing(field="name")
    made = store.add("segment", {"name": ask.fields["name"]})
    return Outcome({"object": "segment", "id": made["id"], "name": made["name"]}, 201)


def create_contact(store: Store, ask: Ask) -> Outcome:
    """Create a contact in the segments that the request names."""
    if not ask.fields.get("email"):
        raise missing(field="email")
    segments = [segment.get("id") for segment in ask.fields.get("segments") or []]
    for segment in segments:
        store.find("segment", segment)
    made = store.add("contact", {"email": ask.fields["email"], "segments": segments})
    return Outcome({"object": "contact", "id": made["id"]}, 201)


def list_contacts(store: Store, ask: Ask) -> Outcome:
    """List the contacts of one segment or of all segments."""
    contacts = [
        contact
        for contact in store.all("contact")
        if not ask.ids or ask.ids[0] in contact["segments"]
    ]
    return Outcome({"object": "list", "data": contacts, "has_more": False})


def create_broadcast(store: Store, ask: Ask) -> Outcome:
    """Create a draft of a broadcast; send it at once if the request says so."""
    fields = {name: ask.fields.get(name) for name in _BROADCAST}
    if not (fields["segment_id"] or fields["audience_id"]):
        raise missing(field="segment_id")
    made = store.add("broadcast", {**fields, "status": "draft", "counted": False})
    body = {"object": "broadcast", "id": made["id"]}
    if not ask.fields.get("send"):
        return Outcome(body, 201)
    return Outcome(body, 201, _send(store, made, ask.fields.get("scheduled_at")))


def update_broadcast(store: Store, ask: Ask) -> Outcome:
    """Update a draft."""
    broadcast = _draft(store, ask.ids[0])
    broadcast |= {name: ask.fields[name] for name in _BROADCAST if name in ask.fields}
    return Outcome({"object": "broadcast", "id": broadcast["id"]})


def send_broadcast(store: Store, ask: Ask) -> Outcome:
    """Send a draft to all contacts of its segment, now or at a scheduled time."""
    broadcast = _draft(store, ask.ids[0])
    move = _send(store, broadcast, ask.fields.get("scheduled_at"))
    return Outcome({"object": "broadcast", "id": broadcast["id"]}, 200, move)


def cancel_broadcast(store: Store, ask: Ask) -> Outcome:
    """Turn a scheduled broadcast back into a draft."""
    broadcast = store.find("broadcast", ask.ids[0])
    if broadcast["status"] != "scheduled":
        raise invalid(field="id", why="Only a scheduled broadcast can be canceled.")
    broadcast["status"] = "draft"
    size = _size(store, broadcast)
    move = Move("broadcast", broadcast["id"], size, "recipients", "draft", moved=False, standing=0)
    return Outcome({"object": "broadcast", "id": broadcast["id"]}, 200, move)


def _send(store: Store, broadcast: dict[str, Any], scheduled_at: str | None) -> Move:
    first = not broadcast["counted"]
    broadcast |= {"status": "scheduled" if scheduled_at else "sent", "counted": True}
    size = _size(store, broadcast)
    return sent("broadcast", broadcast["id"], size, scheduled=bool(scheduled_at), moved=first)


def _size(store: Store, broadcast: dict[str, Any]) -> int:
    segment = broadcast["segment_id"] or broadcast["audience_id"]
    return sum(segment in contact["segments"] for contact in store.all("contact"))


def _draft(store: Store, broadcast_id: str) -> dict[str, Any]:
    broadcast = store.find("broadcast", broadcast_id)
    if broadcast["status"] != "draft":
        raise invalid(field="id", why="The broadcast is no longer a draft.")
    return broadcast
