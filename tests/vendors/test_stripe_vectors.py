"""Do the money rules hold, example by example, through the real SDK?"""

import json
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


def _take(client, wire, step, run, rows):
    _script(wire, step)
    before = len(wire.seen)
    wanted = len(step.get("looks_up", ()))
    if "refused" in step:
        with pytest.raises(keybrake.CallRefused) as caught:
            _call(client, step)
        assert caught.value.reason == _REASONS[step["refused"]]
    else:
        wanted += 1
        try:
            _call(client, step)
        except stripe.StripeError as error:
            assert not isinstance(error, keybrake.KeybrakeError), error  # noqa: PT017
    assert len(wire.seen) - before == wanted, "what went out"
    row = rows()[-1]
    if "refused" not in step:
        assert row["reserved"] == step["reserve"]
    if "counted" in step:
        assert (run.spent + run.reserved) * 1_000_000 == step["counted"]
    if step.get("state") == "unknown":
        assert row["state"] == "unknown"
    elif "refused" not in step:
        assert row["state"] == ("voided" if row["http_status"] == 402 else "settled")


@pytest.mark.parametrize("vector", _DATA["vectors"], ids=lambda vector: vector["id"])
def test_vector(wire, ledger_url, rows, vector):
    """What a call reserves, and what counts after its answer, are as the example says."""
    keybrake.configure(
        usd_per=_DATA["usd_per"], margin_bps=vector.get("margin_bps", _DATA["margin_bps"])
    )
    client = stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": wire.url},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )
    with keybrake.run("agent", cap=vector.get("cap")) as run:
        for step in vector["steps"]:
            _take(client, wire, step, run, rows)
