"""The verdict over all HTTP attempts of a call: answered, nothing happened, or unknown."""

from __future__ import annotations

from enum import Enum

from keybrake.model.call import Reply

# 409 (conflict) and 429 (rate limit) prove that nothing happened only if no earlier attempt was
# ambiguous. 408 (time-out), 425 (too early) and 499 (client closed) never prove it.
_CONFLICT_OR_LIMIT = (409, 429)
_AMBIGUOUS_4XX = (408, 425, 499)


class Verdict(Enum):
    """The conclusion that all attempts of a call support together."""

    ANSWERED = "a 2xx: read it"
    NOTHING_HAPPENED = "proof that nothing happened"
    UNKNOWN = "no proof either way"


def verdict(reply: Reply, *, keyed: bool = True) -> Verdict:
    """
    Return the verdict on a call by the attempt that may have got furthest.

    The last attempt alone is not enough: if the first was reset after sending and the second was
    refused a connection, the first may have charged. Only proof voids a call; without proof its
    outcome is unknown and it counts in full.

    Args:
        reply: The last answer and all attempts.
        keyed: Whether the attempts share one idempotency key, so that the last answer can speak
            for all of them.
    """
    if reply.succeeded:
        return Verdict.ANSWERED
    if not reply.attempts:
        return Verdict.UNKNOWN
    if all(attempt.unsent for attempt in reply.attempts):
        return Verdict.NOTHING_HAPPENED
    earlier = reply.attempts[:-1]
    ambiguous = any(
        not attempt.unsent
        and (attempt.status is None or attempt.status >= 500 or attempt.status in _AMBIGUOUS_4XX)
        for attempt in earlier
    )
    return _last_word(reply, ambiguous=ambiguous, keyed=keyed)


def _last_word(reply: Reply, *, ambiguous: bool, keyed: bool) -> Verdict:
    status = reply.attempts[-1].status
    if status is None or not 400 <= status < 500 or status in _AMBIGUOUS_4XX:
        return Verdict.UNKNOWN
    if not ambiguous:
        return Verdict.NOTHING_HAPPENED
    if not keyed:
        return Verdict.UNKNOWN
    # The attempts share one idempotency key, so a decline (402) or a replayed answer is also the
    # result of the earlier attempts. Any other 4xx may come from a layer that runs before the
    # vendor looks up the key.
    if status == 402 or (reply.replayed and status not in _CONFLICT_OR_LIMIT):
        return Verdict.NOTHING_HAPPENED
    return Verdict.UNKNOWN
