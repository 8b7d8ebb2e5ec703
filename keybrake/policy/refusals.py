"""The words of refusals, for people and for models."""

from __future__ import annotations

from typing import Any

from keybrake import errors
from keybrake.errors import CallRefused


def plain(label: str) -> str:
    """Return a label without control characters: they could fool a terminal or a model."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in label
    )


def stopped(
    label: str, run_id: str, endpoint: str, why: str, *, nothing_sent: bool
) -> CallRefused | errors.CallStopped:
    """
    Return the error for an admitted call whose request then differed from the decision.

    Args:
        label: The label of its run.
        run_id: The id of its run.
        endpoint: The endpoint of the call.
        why: How the request differed, such as another host.
        nothing_sent: Whether the call was stopped before any attempt left: a refusal, then.
    """
    hint = (
        "Leave the SDK's addresses, clients, sessions and proxies alone while calls are under way."
    )
    message = f"{plain(label)}: {endpoint} stopped: {why}, which is not what was decided on. "
    fields: dict[str, Any] = {
        "reason": "host_not_allowed",
        "run_id": run_id,
        "label": label,
        "scope": "run",
        "endpoint": endpoint,
    }
    if nothing_sent:
        message += f"Nothing was sent. Do not retry: the same call will be stopped again. {hint}"
        return errors.HostNotAllowed(message, hint=hint, **fields)
    message += (
        f"It was sent, and the vendor may have carried it out. Do not retry it, and do not make it "
        f"in another way: that may pay twice. {hint}"
    )
    return errors.CallStopped(message, hint=hint, **fields)
