"""What is a Resend call, and what can it cost at most?"""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake.config import settings
from keybrake.config.settings import Money
from keybrake.model.call import Attempt, Call, Effect, Meter, Reply, Request, State
from keybrake.vendors.resend.vendor import Resend
from tests._each import each

RESEND = Resend()
MONEY = Money()
RATE = 900
MAIL = {"from": "a@example.com", "to": "b@example.com", "subject": "Hi", "text": "Hello"}


def describe(path, params=None, method="POST", money=MONEY, **more):
    return RESEND.describe(
        Request("resend", method, f"https://api.resend.com{path}", params, **more), money
    )


def priced(**tables):
    given = {"prices": {"resend": tables}}
    return settings.parse(given, source="t", default=settings.Config("sqlite:///x")).money


def ended(call, body, status=200, headers=None):
    return RESEND.outcome(
        call, Reply(status, headers or {}, json.dumps(body), (Attempt(status),)), MONEY
    )


class Shouted(str):
    """A text that says something else of itself than what JSON makes of it."""

    __slots__ = ()

    def count(self, *_):
        return 0

    def strip(self, *_):
        return ""


@each(
    ("fields", "count"),
    [
        ({}, 1),
        ({"to": ["b@x.y"]}, 1),
        ({"to": ("b@x.y", "c@x.y")}, 2),
        ({"cc": "c@x.y", "bcc": ["d@x.y", "e@x.y"]}, 4),
        ({"cc": None, "bcc": []}, 1),
        ({"cc": "", "bcc": "  "}, 1),
        ({"to": "Doe, Jane <jane@x.y>"}, 1),
        # Resend refuses two addresses in one text; should it ever take them, they are counted.
        ({"to": "a@x.y, b@x.y"}, 2),
        ({"to": ["a@x.y;b@x.y\nc@x.y"]}, 3),
        ({"to": Shouted("a@x.y b@x.y")}, 2),
        ({"to": [Shouted("a@x.y"), "nobody"]}, 2),
        ({"To": "c@x.y", "BCC ": ["d@x.y"]}, 3),
        ({"headers": {"Bcc": "c@x.y, d@x.y", "X-Entity": "e@x.y"}}, 3),
        ({"to": [f"{n}@x.y" for n in range(51)]}, 51),
        ({"scheduled_at": "in 1 hour"}, 1),
        ({"reply_to": ["r@x.y", "s@x.y"]}, 1),
        ({"to": []}, 1),
    ],
)
def test_every_recipient_counts(fields, count):
    """To, cc and bcc count by the address, however they are written; nobody else does."""
    call = describe("/emails", {**MAIL, **fields})

    assert (call.endpoint, call.effect, call.meter) == (
        "resend.emails.send",
        Effect.MONEY,
        Meter.USAGE,
    )
    assert call.refusal is None
    assert call.value_micros == count * RATE


@each(
    "to",
    [
        {"email": "b@x.y"},
        {"b@x.y"},
        iter(["b@x.y"]),
        b"b@x.y",
        5,
        True,
        ["b@x.y", None],
        [["b@x.y", "c@x.y"]],
        [{"email": "b@x.y"}],
        {"b@x.y": 1}.keys(),
    ],
    ids=lambda to: type(to).__name__,
)
@each("field", ["to", "bcc", "Cc"])
def test_recipients_nobody_can_count_are_refused(field, to):
    """What is neither a text nor a list of texts is not counted as one."""
    assert describe("/emails", {**MAIL, field: to}).refusal[0] == "unknown_amount"
    assert describe("/emails/batch", [MAIL, {**MAIL, field: to}]).refusal[0] == "unknown_amount"


@pytest.mark.parametrize("params", [None, [MAIL], "b@x.y", (), 5])
def test_an_email_that_is_no_object_is_refused(params):
    """Nobody can say what a body without fields sends."""
    assert describe("/emails", params).refusal[0] == "unknown_amount"


@given(
    st.dictionaries(
        st.sampled_from(["to", "cc", "bcc", "headers", "Bcc"]),
        st.text(max_size=12) | st.lists(st.text(max_size=12), max_size=4),
    )
)
def test_never_fewer_than_the_addresses(fields):
    """No text with addresses in it counts less than the @ signs that stand in to, cc and bcc."""
    signs = json.dumps({name: value for name, value in fields.items() if name != "headers"})

    assert describe("/emails", fields).value_micros >= signs.count("@") * RATE


@pytest.mark.parametrize(("count", "refused"), [(0, False), (100, False), (101, True)])
def test_a_batch_counts_every_email(count, refused):
    """A batch costs what its emails cost, and may have as many as Resend takes."""
    call = describe("/emails/batch", [{**MAIL, "cc": ["c@x.y"]}] * count)

    assert (call.refusal is not None) is refused
    assert refused or call.value_micros == count * 2 * RATE


@pytest.mark.parametrize("params", [MAIL, None, "x", [MAIL, "b@x.y"], [[MAIL]], {0: MAIL}])
def test_a_batch_that_is_no_list_of_emails_is_refused(params):
    """A batch is a list of objects."""
    assert describe("/emails/batch", params).refusal[0] == "unknown_amount"


def test_the_operators_own_prices():
    """What the operator says a recipient costs is what it costs."""
    money = priced(per_recipient="0.00065", batch_max=2)

    assert describe("/emails", MAIL, money=money).value_micros == 650
    assert describe("/emails/batch", [MAIL] * 3, money=money).refusal[0] == "invalid_amount"


BROADCAST = {"segment_id": "s", "from": "a@x.y", "subject": "Hi", "html": "x"}
SENDS = [
    ("POST", "/broadcasts", {**BROADCAST, "send": True}),
    ("POST", "/broadcasts", {**BROADCAST, "send": "true"}),
    ("POST", "/broadcasts", {**BROADCAST, "scheduled_at": "in 1 hour"}),
    ("PATCH", "/broadcasts/b1", {"send": True}),
    ("POST", "/broadcasts/b1/send", {}),
    ("POST", "/broadcasts/b1/send", None),
]


@pytest.mark.parametrize("params", [BROADCAST, {**BROADCAST, "send": False}])
def test_a_draft_of_a_broadcast_is_free(params):
    """A broadcast that is not sent yet costs nothing, whatever a recipient of one costs."""
    for money in (MONEY, priced(broadcast_per_recipient="0.0009")):
        call = describe("/broadcasts", params, money=money)

        assert (call.effect, call.value_micros, call.refusal) == (Effect.FREE, 0, None)


@pytest.mark.parametrize(("method", "path", "params"), SENDS)
def test_a_broadcast_that_goes_out(method, path, params):
    """Free by the plan it takes the allowlist; at a rate nobody can say; at a price it is counted."""

    def of(**tables):
        return describe(path, params, method, priced(**tables))

    assert describe(path, params, method).effect is Effect.AUTHORITY
    written_down = of(broadcast_per_recipient="0")
    assert (written_down.effect, written_down.value_micros) == (Effect.MONEY, 0)
    assert of(broadcast_per_recipient="0.0009").refusal[0] == "unknown_amount"
    name = written_down.endpoint
    assert of(broadcast_per_recipient="0.0009", endpoint={name: "5"}).value_micros == 5_000_000


def test_a_broadcast_is_one_event():
    """Who drafts, schedules, cancels and sends a broadcast has sent it once."""
    money = priced(
        endpoint={"resend.broadcasts.create": "5", "resend.broadcasts.send": "5"},
    )
    made = describe("/broadcasts", {**BROADCAST, "send": True}, money=money)
    again = describe("/broadcasts/b1/send", {}, money=money)

    assert ended(made, {"id": "b1"}).position == again.position == "resend::b1"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/events/send", {"event": "welcome", "email": "b@x.y"}),
        ("/inboxes/i/threads/t/emails/e/reply", {"text": "x", "cc": "c@x.y"}),
        ("/contacts/imports", {}),
    ],
)
def test_what_nobody_can_count_takes_a_price(path, params):
    """Without a price of the operator's such a call is refused; with one it costs that."""
    call = describe(path, params)
    assert call.refusal[0] == "unknown_amount"
    assert call.endpoint in call.refusal[1]

    call = describe(path, params, money=priced(endpoint={call.endpoint: "0.05"}))
    assert (call.refusal, call.value_micros, call.effect) == (None, 50_000, Effect.MONEY)


@pytest.mark.parametrize("path", ["/contacts", "/audiences/a/contacts", "/domains"])
def test_what_a_plan_includes_is_free_until_it_has_a_price(path):
    """A contact or domain costs nothing that Resend publishes, and what the operator says."""
    call = describe(path, {"email": "b@x.y"})
    assert (call.effect, call.value_micros, call.refusal) == (Effect.FREE, 0, None)

    call = describe(path, {}, money=priced(endpoint={call.endpoint: "0.0027"}))
    assert (call.effect, call.value_micros) == (Effect.MONEY, 2700)


@pytest.mark.parametrize(
    ("path", "params", "tables"),
    [
        ("/emails", MAIL, {"per_recipient": "none"}),
        ("/contacts", {}, {"endpoint": {"resend.contacts.create": "none"}}),
        ("/broadcasts/b1/send", {}, {"broadcast_per_recipient": "none"}),
    ],
)
def test_no_price_in_writing(path, params, tables):
    """What the operator gives no price on purpose is refused."""
    assert describe(path, params, money=priced(**tables)).refusal is not None


def test_a_draft_says_whom_it_goes_to():
    """The recipients of an inbox draft are looked up, and one that cannot be read is refused."""
    call = describe("/inboxes/me%40x.y/drafts/d1/send", {})
    assert call.lookup.path == "/inboxes/me%40x.y/drafts/d1"

    draft = {"id": "d1", "to": ["a@x.y", "b@x.y"], "cc": ["c@x.y"], "bcc": []}
    assert RESEND.complete(call, draft, MONEY).value_micros == 3 * RATE
    for unreadable in ({}, {"id": "d1"}, {"to": None}, {"to": [{"a": 1}]}):
        assert RESEND.complete(call, unreadable, MONEY).refusal[0] == "unknown_amount"


def test_a_forward_names_its_recipients():
    """What is passed on counts those it is passed on to."""
    call = describe("/inboxes/i/threads/t/emails/e/forward", {"to": ["a@x.y"], "bcc": "b@x.y"})

    assert call.value_micros == 2 * RATE


@each(
    ("method", "path", "effect"),
    [
        ("GET", "/emails/e1", Effect.READ),
        ("GET", "/usage", Effect.READ),
        ("GET", "/anything/new", Effect.READ),
        ("GET", "/audiences/", Effect.READ),  # as resend 2.0 to 2.4 write it
        ("PATCH", "/emails/e1", Effect.FREE),
        ("POST", "/emails/e1/cancel", Effect.FREE),
        ("POST", "/segments", Effect.FREE),
        ("POST", "/templates", Effect.FREE),
        ("DELETE", "/api-keys/k1", Effect.FREE),
        ("POST", "/automations/a1/stop", Effect.FREE),
        ("POST", "/api-keys", Effect.AUTHORITY),
        ("POST", "/automations", Effect.AUTHORITY),
        ("PATCH", "/automations/a1", Effect.AUTHORITY),
        ("POST", "/webhooks", Effect.AUTHORITY),
        ("PATCH", "/inboxes/i1/agent", Effect.AUTHORITY),
        ("POST", "/domains/claim", Effect.AUTHORITY),
        ("POST", "/anything/new", Effect.UNCLASSIFIED),
        ("DELETE", "/emails/e1", Effect.UNCLASSIFIED),
        ("PUT", "/emails", Effect.UNCLASSIFIED),
    ],
)
def test_what_an_endpoint_does(method, path, effect):
    """Reads and what only arranges things are free; what acts later by itself has to be named."""
    call = describe(path, {}, method)

    assert (call.effect, call.value_micros, call.refusal) == (effect, 0, None)


@pytest.mark.parametrize(
    ("path", "honoured"),
    [
        ("/emails", True),
        ("/emails/batch", True),
        ("/inboxes/i/drafts/d/send", True),
        ("/broadcasts/b/send", False),
        ("/events/send", False),
        ("/contacts", False),
    ],
)
def test_a_key_means_nothing_where_resend_does_not_look_at_it(path, honoured):
    """Where the same key sends once more, a second call under it is not taken for the first."""
    call = describe(path, MAIL, idempotency_key="k")

    assert call.idempotency_key == ("k" if honoured else None)


def test_an_answer_names_the_email():
    """The id is the position, so that the same answer counts once."""
    told = ended(describe("/emails", MAIL), {"id": "e1"})

    assert (told.state, told.position, told.object_id) == (State.SETTLED, "resend::e1", "e1")
    assert (told.value_micros, told.position_state, told.conclusive) == (RATE, "settled", True)
    assert not told.replayed


def test_a_replay_is_the_callers_own():
    """A replay header under a key of the caller's says that it is an old answer."""
    headers = {"Idempotent-Replayed": "true"}

    own = ended(describe("/emails", MAIL, idempotency_key="k"), {"id": "e1"}, headers=headers)
    ours = ended(describe("/emails", MAIL), {"id": "e1"}, headers=headers)
    assert (own.replayed, ours.replayed) == (True, False)


@each(
    "body",
    [
        *(None, {}, {"id": None}, {"id": 5}, {"id": ""}, [], "e1", {"data": [{"id": "e1"}]}),
        *({"message": "queued"}, {"id": "x" * 300}),
    ],
)
def test_a_success_without_an_email_is_unknown(body):
    """An answer that does not say which email was sent may have sent one."""
    assert ended(describe("/emails", MAIL), body).state is State.UNKNOWN


BATCH = [MAIL, {**MAIL, "cc": ["c@x.y"]}, {**MAIL, "bcc": ["d@x.y", "e@x.y"]}]


@each(
    ("ids", "errors", "count"),
    [
        (["e1", "e2", "e3"], None, 6),
        (["e1", "e2", "e3"], [], 6),
        (["e1", "e3"], [1], 4),
        (["e2"], [0, 2], 2),
        (["e2"], [0, 2, 2], 2),
        # It contradicts itself: all of it counts.
        (["e1", "e2", "e3"], [1], 6),
        (["e1"], [1], 6),
        (["e1", "e2"], [3], 6),
        (["e1", "e2"], [-1], 6),
        (["e1", "e2"], [True], 6),
        (["e1", "e2"], ["1"], 6),
        (["e1", "e2"], None, 6),
    ],
)
def test_a_batch_counts_what_was_taken(ids, errors, count):
    """In permissive mode what Resend turned down costs nothing, if the answer is sound."""
    body = {"data": [{"id": name} for name in ids]}
    if errors is not None:
        body["errors"] = [{"index": index, "message": "no"} for index in errors]
    told = ended(describe("/emails/batch", BATCH), body)

    assert (told.state, told.position) == (State.SETTLED, f"resend::{ids[0]}")
    assert told.value_micros == count * RATE


def test_a_batch_of_which_nothing_was_taken_costs_nothing():
    """In permissive mode every email may be turned down."""
    errors = [{"index": index, "message": "no"} for index in range(3)]
    told = ended(describe("/emails/batch", BATCH), {"data": [], "errors": errors})

    assert (told.state, told.value_micros, told.position) == (State.SETTLED, 0, None)


@each(
    "body",
    [
        *({}, {"data": []}, {"data": None}, {"data": [{}]}, {"data": ["e1"]}, {"id": "e1"}),
        {"data": [], "errors": [{"index": 0}]},
        {"errors": [{"index": 0}, {"index": 1}, {"index": 2}]},
        {"data": [{"id": "e1"}, {"id": None}, {"id": "e3"}]},
    ],
)
def test_a_batch_answer_nobody_can_read_is_unknown(body):
    """A batch that may have gone out counts in full."""
    assert ended(describe("/emails/batch", BATCH), body).state is State.UNKNOWN


@each(
    ("status", "state"),
    [
        *((400, State.VOIDED), (401, State.VOIDED), (403, State.VOIDED), (404, State.VOIDED)),
        *((409, State.VOIDED), (422, State.VOIDED), (429, State.VOIDED)),
        *((408, State.UNKNOWN), (500, State.UNKNOWN), (503, State.UNKNOWN), (307, State.UNKNOWN)),
    ],
)
def test_what_a_failure_proves(status, state):
    """A refusal of Resend's sent nothing; it is silent about a call under the same key before it."""
    told = ended(describe("/emails", MAIL, idempotency_key="k"), {"name": "x"}, status)

    assert told.state is state
    assert not told.conclusive


@pytest.mark.parametrize(("status", "state"), [(500, State.SETTLED), (422, State.VOIDED)])
def test_what_is_free_leaves_no_doubt(status, state):
    """Whatever became of a call that costs nothing, it cost nothing."""
    for path in ("/segments", "/broadcasts"):
        assert ended(describe(path, {"name": "x"}), {}, status).state is state


def test_standing_authority_is_left_in_doubt():
    """A key that may have been made is listed until somebody has looked."""
    assert ended(describe("/api-keys", {"name": "x"}), {}, 500).state is State.UNKNOWN


def test_an_answer_to_a_call_in_doubt():
    """A batch that is asked about later counts as it was reserved."""
    doubt = Call("resend", "resend.batch.send", "POST", "/emails/batch", Effect.MONEY)
    body = {"data": [{"id": "e1"}], "errors": [{"index": 0, "message": "no"}]}
    told = ended(doubt._replace(value_micros=5400), body)

    assert (told.state, told.value_micros) == (State.SETTLED, 5400)


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["to", "cc", "headers", "id", "data", "errors", "index", "send"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_PATHS = ["/emails", "/emails/batch", "/broadcasts", "/inboxes/i/drafts/d/send", "/events/send"]


@given(st.sampled_from(_PATHS), _ODD, _ODD, st.sampled_from([200, 201, 422, 500]))
def test_no_body_and_no_answer_is_too_odd(path, params, body, status):
    """Whatever is sent and whatever comes back, there is an answer, and it is a sound one."""
    call = describe(path, params)
    told = RESEND.outcome(call, Reply(status, {}, repr(body), (Attempt(status),)))
    read = ended(call, None)
    if not isinstance(body, bytes) and b"NaN" not in repr(body).encode():
        with contextlib.suppress(TypeError):
            read = ended(call, body, status)
    done = RESEND.complete(call, body if isinstance(body, dict) else {}, MONEY)

    assert call.value_micros >= 0
    assert call.refusal is None or all(call.refusal)
    for outcome in (told, read):
        assert outcome.value_micros is None or 0 <= outcome.value_micros <= call.value_micros
        assert outcome.state is not State.VOIDED or status == 422
    assert call.lookup is None or done.refusal is not None or done.value_micros >= RATE


def test_the_table_says_when_and_where_from():
    """Every row of the table has a name of the SDK's, and the table its source and date."""
    names = RESEND.endpoints()

    assert {"resend.emails.send", "resend.batch.send", "resend.broadcasts.send"} <= names
    assert len(RESEND._table.rows) == len({(row.method, row.path) for row in RESEND._table.rows})
    assert all(row.effect is Effect.READ for row in RESEND._table.rows if row.method == "GET")
