"""Is only proof proof, over all attempts of one call?"""

from hypothesis import given
from hypothesis import strategies as st

from keybrake.model.call import Attempt, Reply
from keybrake.vendors.attempts import Verdict, verdict
from tests._each import each

UNSENT, LOST = Attempt(None, unsent=True), Attempt(None)
VOID, UNKNOWN, READ = Verdict.NOTHING_HAPPENED, Verdict.UNKNOWN, Verdict.ANSWERED
REPLAYED = {"idempotent-replayed": "true"}


def _reply(attempts, headers):
    made = tuple(a if isinstance(a, Attempt) else Attempt(a) for a in attempts)
    return Reply(status=made[-1].status if made else None, headers=headers, attempts=made)


@each(
    ("attempts", "headers", "expected"),
    [
        ([], {}, UNKNOWN),
        ([200], {}, READ),
        ([500, 200], {}, READ),
        ([LOST, 200], REPLAYED, READ),
        ([UNSENT], {}, VOID),
        ([UNSENT, UNSENT], {}, VOID),
        ([LOST], {}, UNKNOWN),
        ([LOST, UNSENT], {}, UNKNOWN),
        ([UNSENT, LOST], {}, UNKNOWN),
        ([500, UNSENT], {}, UNKNOWN),
        ([409, UNSENT], {}, UNKNOWN),
        *[([status], {}, VOID) for status in (400, 401, 402, 403, 404, 409, 422, 429)],
        *[([status], {}, UNKNOWN) for status in (100, 302, 307, 408, 425, 499, 500, 503, 599)],
        *[([LOST, status], {}, UNKNOWN) for status in (400, 401, 403, 404, 409, 429)],
        *[([500, status], {}, UNKNOWN) for status in (400, 401, 403, 404, 409, 429)],
        ([LOST, 402], {}, VOID),
        ([500, 400], REPLAYED, VOID),
        ([500, 409], REPLAYED, UNKNOWN),
        ([500, 429], REPLAYED, UNKNOWN),
        ([500, 500], REPLAYED, UNKNOWN),
        ([409, 400], {}, VOID),
        ([429, 429, 404], {}, VOID),
        ([UNSENT, 402], {}, VOID),
        ([500, 409, 400], {}, UNKNOWN),
        ([408, 400], {}, UNKNOWN),
    ],
)
def test_verdicts(attempts, headers, expected):
    """Each row of attempts proves what it proves, and no more."""
    assert verdict(_reply(attempts, headers)) is expected


_ATTEMPTS = st.lists(
    st.one_of(st.just(UNSENT), st.just(LOST), st.integers(100, 599)), min_size=1, max_size=5
)


@given(_ATTEMPTS, st.sampled_from([{}, REPLAYED, {"idempotent-replayed": "false"}]))
def test_a_lost_attempt_is_never_voided_by_what_proves_nothing(attempts, headers):
    """After an attempt that may have charged, only an answer under the same key voids."""
    may_have_charged = any(a == LOST or (isinstance(a, int) and a >= 500) for a in attempts)
    if not may_have_charged or verdict(_reply(attempts, headers)) is not VOID:
        return
    last = attempts[-1]

    assert last == 402 or (headers == REPLAYED and 400 <= last < 500 and last not in (409, 429))
