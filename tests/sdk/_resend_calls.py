"""How a test calls the Resend SDK: in the plain or in the async way."""

import asyncio
from typing import Any

import resend

MAIL = {
    "from": "Acme <a@example.com>",
    "to": ["b@example.com"],
    "subject": "Hi",
    "html": "<p>Hello</p>",
}
KINDS = ["sync", "async"]


def do(kind: str, owner: Any, name: str, *args: Any) -> Any:
    """Call one of the SDK's methods."""
    if kind == "sync":
        return getattr(owner, name)(*args)
    return asyncio.run(getattr(owner, f"{name}_async")(*args))


def send(kind: str, params: Any = None, options: Any = None) -> Any:
    """Send an email."""
    return do(kind, resend.Emails, "send", MAIL if params is None else params, options)
