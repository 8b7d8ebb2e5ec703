"""Is every Stripe call that moves money counted, whichever way it ends, through the real SDK?"""

import contextlib
import sqlite3

import pytest
import stripe

import keybrake
from tests.vendors._stripe_cases import COUNTED

pytestmark = pytest.mark.parametrize("case", COUNTED, ids=lambda case: case.endpoint)

# The ledger counts the object these act on, once they have acted on it.
KNOWN_BY_NOW = {
    case.call
    for case in COUNTED
    if case.looks and "payment_intents." in case.endpoint and "refund" not in case.endpoint
} | {
    case.call
    for case in COUNTED
    if case.endpoint.endswith(("_payment_intent", "charges.capture"))
    or case.endpoint.endswith(("payout_intents.update", "payout_intents.confirm"))
}
DECLINE = {"error": {"type": "card_error", "message": "no"}}


@pytest.fixture
def client(wire):
    """Return a client that talks to the scripted server, one attempt per call."""
    return stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": wire.url},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )


def _make(client, wire, case, answer, **options):
    for _, body in case.looks:
        wire.answer(200, body)
    if answer is None:
        wire.hang_up()
    elif answer is not ...:
        wire.answer(*answer)
    method, path = case.call.split()
    return client.raw_request(method.lower(), path, **case.params, **options)


def _went_out(wire):
    lines = [seen.split(b" HTTP/", 1)[0].decode() for seen in wire.seen]
    return [line.partition("?")[0] for line in lines]


def _positions(ledger_url):
    path = ledger_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT key, value FROM position"))


def _micros(amount):
    return int(amount * 1_000_000)


def test_success(wire, client, ledger_url, rows, case):
    """The worst case is reserved, the answer is counted, and each look-up has its row."""
    with keybrake.run("agent", cap=10_000) as run:
        _make(client, wire, case, (200, case.answer))

    *looks, row = rows()
    counted = case.reserve if case.counted is None else case.counted
    assert [*(look for look, _ in case.looks), case.call] == _went_out(wire)
    assert ["stripe.lookup"] * len(case.looks) == [look["endpoint"] for look in looks]
    assert (row["endpoint"], row["state"]) == (f"stripe.{case.endpoint}", "settled")
    assert (row["reserved"], row["cost"]) == (case.reserve, counted)
    assert (_micros(run.spent), _micros(run.reserved)) == (counted, 0)
    assert row["meter"] is not None
    if case.position is not None:
        assert _positions(ledger_url) == {f"stripe::{case.position}": counted}


def test_decline(wire, client, ledger_url, rows, case):
    """A decline counts nothing."""
    with keybrake.run("agent", cap=10_000) as run, pytest.raises(stripe.StripeError):
        _make(client, wire, case, (402, DECLINE))

    assert rows()[-1]["state"] == "voided"
    assert (run.spent, run.reserved) == (0, 0)


@pytest.mark.parametrize("answer", [(500, DECLINE), None], ids=["500", "reset"])
def test_unknown(wire, client, ledger_url, rows, case, answer):
    """What may have happened counts in full."""
    with keybrake.run("agent", cap=10_000) as run, pytest.raises(stripe.StripeError):
        _make(client, wire, case, answer)

    assert rows()[-1]["state"] == "unknown"
    assert (_micros(run.spent), _micros(run.reserved)) == (0, case.reserve)


def test_one_micro_too_little(wire, client, ledger_url, rows, case):
    """A cap that is one micro too small refuses, and nothing goes out but the look-ups."""
    cap = f"{case.reserve // 10**6}.{case.reserve % 10**6:06}"
    less = case.reserve - 1
    with (
        keybrake.run("agent", cap=f"{less // 10**6}.{less % 10**6:06}"),
        pytest.raises(keybrake.CapExceeded),
    ):
        _make(client, wire, case, ...)
    assert [look for look, _ in case.looks] == _went_out(wire)

    with keybrake.run("agent", cap=cap) as run:
        _make(client, wire, case, (200, case.answer))
    assert run.remaining >= 0


def test_a_look_up_that_fails_refuses(wire, client, ledger_url, rows, case):
    """What nobody can say the amount of does not go out."""
    if not case.looks:
        return
    wire.otherwise = (404, DECLINE, {})
    method, path = case.call.split()
    with keybrake.run("agent", cap=10_000), pytest.raises(keybrake.UnknownCost) as caught:
        client.raw_request(method.lower(), path, **case.params)

    assert caught.value.reason == "unknown_amount"
    assert [case.looks[0][0]] == _went_out(wire)
    assert [row["endpoint"] for row in rows()] == ["stripe.lookup", f"stripe.{case.endpoint}"]


# A DELETE of v1 has no key that Stripe reads; that of an item leaves its invoice as it is by now.
_COUNTS_AGAIN = ("subscriptions.cancel", "subscription_items.delete")


def test_a_replay_adds_nothing(wire, client, ledger_url, rows, case):
    """The same call again under the caller's own key counts once; a DELETE has no key that Stripe reads."""
    with keybrake.run("agent", cap=10_000) as run:
        _make(client, wire, case, (200, case.answer), idempotency_key="k")
        spent = run.spent
        replayed = (200, case.answer, {"Idempotent-Replayed": "true"})
        again = case._replace(looks=()) if case.call in KNOWN_BY_NOW else case
        _make(client, wire, again, replayed, idempotency_key="k")

    times = 2 if case.endpoint in _COUNTS_AGAIN else 1
    assert (run.spent, run.reserved) == (times * spent, 0)


def test_another_account_is_another_position(wire, client, ledger_url, rows, case):
    """The same call for another connected account is another event, and is looked up there."""
    with keybrake.run("agent", cap=10_000) as run:
        for account in ("acct_a", "acct_b"):
            _make(client, wire, case, (200, case.answer), stripe_account=account)

    counted = case.reserve if case.counted is None else case.counted
    assert _micros(run.spent) == 2 * counted
    for seen in wire.seen:
        assert b"stripe-account: acct_" in seen.lower()
