"""Do the money rules hold, example by example, through the real SDK?"""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
import stripe

import keybrake

_DATA = json.loads(Path(__file__).with_name("stripe_vectors.json").read_text("utf-8"))
_REASONS = {
    "cap": "cap_exceeded",
    "unknown_amount": "unknown_amount",
    "no_rate": "no_rate",
    "unclassified_endpoint": "unclassified_endpoint",
}


def _answer_of(step):
    """Return the answer that is written down, or one that says what the request asked for."""
    if "answer" in step:
        return step["answer"]
    params = step["params"]
    kind, status = (
        ("payout", "paid") if "/payouts" in step["call"] else ("payment_intent", "processing")
    )
    body = {"id": "x_1", "object": kind, "status": status, **params}
    return {"status": 200, "body": body}


def _script(wire, step):
    for look in step.get("looks_up", ()):
        wire.answer(look["status"], look["body"])
    if "refused" in step:
        return
    answer = _answer_of(step)
    if answer == "none":
        wire.hang_up()
    else:
        wire.answer(answer["status"], answer["body"], answer.get("headers"))


def _call(client, step):
    method, path = step["call"].split()
    options = {"idempotency_key": step["key"]} if "key" in step else {}
    return client.raw_request(method.lower(), path, **step["params"], **options)


def _make(client, step):
    if "refused" in step:
        with pytest.raises(keybrake.CallRefused) as caught:
            _call(client, step)
        assert caught.value.reason == _REASONS[step["refused"]]
        return
    try:
        _call(client, step)
    except stripe.StripeError as error:
        assert not isinstance(error, keybrake.KeybrakeError), error  # noqa: PT017


def _went_out(step):
    looks = [f"GET {look['path']}" for look in step.get("looks_up", ())]
    return looks if "refused" in step else [*looks, step["call"]]


def _position_state(ledger_url):
    """Return the state of the position that was moved last."""
    path = ledger_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT state FROM position ORDER BY last_write DESC").fetchone()
    return found[0] if found else None


def _check(row, step, ledger_url):
    assert row["reserved"] == step["reserve"]
    assert row["contingent"] == step.get("contingent")
    assert bool(row["recurring"]) == step.get("recurring", False)
    if step.get("state") == "unknown":
        assert row["state"] == "unknown"
        return
    assert row["state"] == ("voided" if row["http_status"] == 402 else "settled")
    if step.get("state") and step["counted"]:
        assert _position_state(ledger_url) == step["state"]


def _take(client, wire, step, rows, ledger_url):
    _script(wire, step)
    before = len(wire.seen)
    _make(client, step)
    lines = [seen.split(b" HTTP/", 1)[0].decode() for seen in wire.seen[before:]]
    assert [line.partition("?")[0] for line in lines] == _went_out(step)
    if "refused" not in step:
        _check(rows()[-1], step, ledger_url)


@pytest.fixture
def client(wire):
    """Return a client that talks to the scripted server, one attempt per call."""
    return stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": wire.url},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )


def _configure(vector, refunds):
    keybrake.configure(
        usd_per=_DATA["usd_per"],
        margin_bps=vector.get("margin_bps", _DATA["margin_bps"]),
        climate_fee_margin_bps=vector.get("climate_fee_margin_bps", 0),
        refunds=refunds,
    )


@pytest.mark.parametrize("vector", _DATA["vectors"], ids=lambda vector: vector["id"])
def test_vector(wire, client, ledger_url, rows, vector):
    """What a call reserves, and what counts after its answer, are as the example says."""
    _configure(vector, "gross")
    with keybrake.run("agent", cap=vector.get("cap")) as run:
        for step in vector["steps"]:
            _take(client, wire, step, rows, ledger_url)
            if "counted" in step:
                assert (run.spent + run.reserved) * 1_000_000 == step["counted"]


_INSTEAD = [
    pytest.param(vector, refunds, counted, id=f"{vector['id']}-{refunds}")
    for vector in _DATA["vectors"]
    for refunds, counted in vector.get("instead", {}).items()
]


@pytest.mark.parametrize(("vector", "refunds", "counted"), _INSTEAD)
def test_refunds_counted_otherwise(wire, client, ledger_url, vector, refunds, counted):
    """Where refunds count net, or not at all, the run ends at what the example says instead."""
    _configure(vector, refunds)
    with keybrake.run("agent", cap=vector.get("cap")) as run:
        for step in vector["steps"]:
            _script(wire, step)
            _make(client, step)

    assert (run.spent + run.reserved) * 1_000_000 == counted


def test_every_example_is_here():
    """All 36 examples of how Stripe calls count are tested."""
    assert [f"stripe-{nr:03}" for nr in range(1, 37)] == [v["id"] for v in _DATA["vectors"]]
