"""Is an HTTP client's error read as proof only where it is proof?"""

import itertools
import socket

import pytest
import stripe

import keybrake
from keybrake.sdk.network import never_left
from keybrake.testing import Fault

ASK = {"amount": 2999, "currency": "usd"}


class NewConnectionError(Exception):
    """Named as urllib3 names it."""


class ReadTimeoutError(Exception):
    """Named as urllib3 names it."""


def _chained(*errors, by):
    for outer, inner in itertools.pairwise(errors):
        if by == "args":
            outer.args = (inner,)
        else:
            setattr(outer, by, inner)
    return errors[0]


@pytest.mark.parametrize("by", ["args", "reason", "__cause__", "__context__"])
def test_refused_before_sending_is_proof(by):
    """A connection that was never made sent nothing, however deep the reason lies."""
    assert never_left(_chained(Exception(), Exception(), NewConnectionError(), by=by))


@pytest.mark.parametrize("error", [None, Exception(), TimeoutError(), ReadTimeoutError()])
def test_everything_else_counts_as_sent(error):
    """What is not known to come from before sending may have sent."""
    assert not never_left(error)


def test_what_was_handled_around_the_call_proves_nothing():
    """Python chains whatever was being handled; only what this attempt itself met counts."""
    handled = ConnectionRefusedError()
    known, unheard_of = ReadTimeoutError(), Exception()
    known.__context__ = unheard_of.__context__ = handled

    assert not never_left(known)
    assert not never_left(unheard_of, handled)


def test_a_chain_that_bites_its_tail_ends():
    """A cycle of causes is no endless loop."""
    error = Exception()
    other = Exception()
    error.__cause__, other.__cause__ = other, error

    assert not never_left(error)


@pytest.mark.parametrize("kind", ["reset_after", "timeout_after", "truncate"])
def test_a_charge_made_while_handling_another_error_is_not_voided(fake, ledger_url, rows, kind):
    """An agent that falls back after a refused connection keeps the charge it then makes."""
    fake.inject(Fault(kind, hang=0.1))
    with keybrake.run("agent", cap=200) as run:
        try:
            socket.create_connection(("127.0.0.1", 1), timeout=1)
        except ConnectionRefusedError:
            with pytest.raises(stripe.APIConnectionError):
                stripe.PaymentIntent.create(**ASK)

    assert fake.journal.total() == 2999
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "29.99"
