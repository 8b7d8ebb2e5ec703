"""Do Twilio's money rules hold, example by example, through the real SDK?"""

import pytest
from twilio.base.exceptions import TwilioException

import keybrake
from keybrake.vendors.twilio import sms_segments
from tests.vendors._twilio import ACCOUNT, VECTORS, client_at, position, price_all

# What Twilio answers where the example does not say.
_QUEUED = {"status": 201, "body": {"sid": "SM" + "0" * 32, "status": "queued", "price": None}}
_REASONS = {"no_rate": "no_rate"}


def _call(client, step):
    method, url = step["call"].split(" ", 1)
    if method == "GET":
        return client.request(method, url, params=step["params"])
    return client.request(method, url, data=step["params"])


def _take(client, wire, step, run, rows):
    before = len(wire.seen)
    if "refused" in step:
        with pytest.raises(keybrake.UnknownCost) as caught:
            _call(client, step)
        assert caught.value.reason == _REASONS[step["refused"]]
        assert len(wire.seen) == before
    else:
        answer = step.get("answer", _QUEUED)
        wire.answer(answer["status"], answer["body"])
        _call(client, step)
        assert len(wire.seen) == before + 1
        assert rows()[-1]["reserved"] == step["reserve"]
    if "counted" in step:
        assert (run.spent + run.reserved) * 1_000_000 == step["counted"]


def _check_state(ledger_url, rows, step):
    row = rows()[-1]
    if step["state"] == "unknown":
        assert row["state"] == "unknown"
    elif step.get("answer", {}).get("status") == 400:
        assert row["state"] == "voided"
    else:
        assert row["state"] == "settled"
        sid = step["answer"]["body"].get("sid")
        if sid is not None:
            assert position(ledger_url, f"twilio:{ACCOUNT}:{sid}")[0] == step["state"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_vector(wire, ledger_url, rows, vector):
    """What a call reserves, and what counts after its answer, are as the example says."""
    price_all()
    with client_at(wire.url) as client, keybrake.run("agent", cap=None) as run:
        for step in vector["steps"]:
            _take(client, wire, step, run, rows)
            if "state" in step:
                _check_state(ledger_url, rows, step)
            if "recurring" in step:
                assert rows()[-1]["recurring"] == 1
            if "segments" in step:
                found = sms_segments.count(step["params"]["Body"])
                assert found == (step["encoding"], step["segments"])


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS["vectors"] if v["steps"][0]["call"].endswith("/Messages.json")],
    ids=lambda vector: vector["id"],
)
def test_the_typed_methods_say_the_same(wire, ledger_url, rows, vector):
    """``client.messages.create`` reserves what ``client.request`` with the same fields does."""
    price_all()
    step = vector["steps"][0]
    names = {
        "To": "to",
        "From": "from_",
        "Body": "body",
        "MediaUrl": "media_url",
        "MessagingServiceSid": "messaging_service_sid",
        "ScheduleType": "schedule_type",
        "SendAt": "send_at",
    }
    answer = step.get("answer", _QUEUED)
    wire.answer(answer["status"], answer["body"])
    with client_at(wire.url) as client, keybrake.run("agent", cap=None):
        create = client.messages.create
        try:
            create(**{names[name]: value for name, value in step["params"].items()})
        except TwilioException as error:
            refused = isinstance(error, keybrake.UnknownCost)
            assert refused == ("refused" in step)
    if "reserve" in step:
        assert rows()[-1]["reserved"] == step["reserve"]
