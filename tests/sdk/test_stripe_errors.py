"""Is a refusal an error that the Stripe SDK's users know how to handle?"""

import copy
import multiprocessing
import pickle

import pytest
import stripe

import keybrake

ASK = {"amount": 2999, "currency": "usd"}


@pytest.fixture
def refusal(fake, ledger_url):
    """Return a refusal as it comes out of the SDK."""
    with keybrake.run("agent", cap=5), pytest.raises(keybrake.CapExceeded) as caught:
        stripe.PaymentIntent.create(**ASK)
    return caught.value


def test_a_refusal_is_stripes_own_error_too(refusal):
    """Existing handlers for a key without permission catch it, and retriers let it be."""
    assert isinstance(refusal, stripe.PermissionError)
    assert isinstance(refusal, keybrake.CallRefused)
    assert not isinstance(refusal, stripe.APIConnectionError | stripe.RateLimitError | OSError)
    assert refusal.http_status == 403
    assert refusal.code == refusal.reason == "cap_exceeded"
    assert refusal.retryable is False
    assert refusal.user_message == str(refusal)


def _same(error):
    return (
        type(error).__name__,
        isinstance(error, stripe.PermissionError),
        isinstance(error, keybrake.CapExceeded),
        error.http_status,
        error.fields,
        str(error),
    )


@pytest.mark.parametrize(
    "through", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_refusal_survives_copies(refusal, through):
    """Copying and pickling lose nothing of a refusal."""
    assert _same(through(refusal)) == _same(refusal)


def test_a_refusal_survives_another_process(refusal):
    """A refusal comes back whole from a process pool."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert _same(pool.apply(copy.copy, (refusal,))) == _same(refusal)


def test_a_retrier_does_not_see_it(fake, ledger_url):
    """A loop that retries what Stripe calls transient does not retry a refusal."""
    tries = 0

    def attempt():
        nonlocal tries
        for _ in range(5):
            tries += 1
            try:
                return stripe.PaymentIntent.create(**ASK)
            except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError, OSError):
                continue
        return None

    with keybrake.run("agent", cap=5), pytest.raises(keybrake.CapExceeded):
        attempt()

    assert tries == 1
