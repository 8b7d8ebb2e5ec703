"""Do the rules for emails hold, example by example, through the real SDK?"""

import asyncio
import json
from pathlib import Path

import pytest
import resend
from resend.async_request import AsyncRequest
from resend.exceptions import ResendError
from resend.request import Request

import keybrake

_DATA = json.loads(Path(__file__).with_name("resend_vectors.json").read_text("utf-8"))
_ROW_STATE = {"settled": "settled", "released": "voided"}


@pytest.fixture
def at_wire(wire, monkeypatch):
    """Point the resend SDK at the scripted server."""
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setattr(resend, "api_key", "re_fake")
    return wire


def _call(kind, step):
    method, path = step["call"].split()
    options = {"idempotency_key": step["key"]} if "key" in step else None
    if kind == "async":
        made = AsyncRequest(path, step["params"], method.lower(), options)
        return asyncio.run(made.perform_with_content())
    return Request(path, step["params"], method.lower(), options).perform_with_content()


def _take(wire, step, kind, run, rows):
    before = len(wire.seen)
    if "refused" in step:
        with pytest.raises(keybrake.UnknownCost) as caught:
            _call(kind, step)
        assert caught.value.reason == step["refused"]
        assert len(wire.seen) == before
    else:
        answer = step["answer"]
        headers = {"Content-Type": "application/json", **answer.get("headers", {})}
        wire.answer(answer["status"], answer["body"], headers)
        try:
            assert _call(kind, step).items() >= answer["body"].items()
        except ResendError as error:
            assert error.code == answer["status"]  # noqa: PT017
        assert len(wire.seen) == before + 1
        row = rows()[-1]
        assert (row["reserved"], row["state"]) == (step["reserve"], _ROW_STATE[step["state"]])
        if "recipients" in step:
            assert row["reserved"] == step["recipients"] * 900
    assert (run.spent + run.reserved) * 1_000_000 == step["counted"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("vector", _DATA["vectors"], ids=lambda vector: vector["id"])
def test_vector(at_wire, ledger_url, rows, vector, kind):
    """What a call reserves, and what counts after its answer, are as the example says."""
    keybrake.configure(prices={"resend": _DATA["prices"] | vector.get("prices", {})})
    with keybrake.run("agent", cap=None) as run:
        for step in vector["steps"]:
            _take(at_wire, step, kind, run, rows)
