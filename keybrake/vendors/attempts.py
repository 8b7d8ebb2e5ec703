"""Did it happen: one verdict over all HTTP attempts of a call."""

from __future__ import annotations

from enum import Enum

from keybrake.model.call import Reply

# An error status that does not say whether the call ran: time-out, conflict, too early, rate
# limit, client gone. 409 and 429 are proof only when nothing ambiguous went before.
_CONFLICT_OR_LIMIT = (409, 429)
_AMBIGUOUS_4XX = (408, 425, 499)


class Verdict(Enum):
    """What the attempts prove together."""

    ANSWERED = "a 2xx: read it"
    NOTHING_HAPPENED = "proof that nothing happened"
    UNKNOWN = "no proof either way"


def verdict(reply: Reply, *, keyed: bool = True) -> Verdict:
    """
    Judge a call by the furthest any of its attempts may have got.

    The last attempt alone lies: one that was reset after sending and then refused a connection
    may well have charged. Only proof voids; everything else is unknown and counts in full.

    Args:
        reply: What came back.
        keyed: Whether the attempts share one idempotency key, so that the last speaks for all.
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
    # The attempts share one idempotency key, so a decline, or an answer marked as a replay,
    # speaks for all of them. Anything else may come from a layer before that key is looked at.
    if status == 402 or (reply.replayed and status not in _CONFLICT_OR_LIMIT):
        return Verdict.NOTHING_HAPPENED
    return Verdict.UNKNOWN
