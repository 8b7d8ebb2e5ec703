"""The errors form one tree, have useful fields, pickle, and never invite a retry."""

import copy
import inspect
import multiprocessing
import pickle
import traceback
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal

import pytest
import stripe

import keybrake
from keybrake import errors
from tests._each import each

FIELDS = {
    "reason": "cap_exceeded",
    "run_id": "run_1",
    "label": "invoice-agent",
    "scope": "run cap",
    "endpoint": "stripe.payment_intents.create",
    "cap": Decimal(200),
    "spent": Decimal("187.60"),
    "reserved": Decimal(0),
    "requested": Decimal(50),
    "remaining": Decimal("12.40"),
    "hint": "Ask a person.",
}
ALL = [getattr(errors, name) for name in errors.__all__]
REFUSALS = [kind for kind in ALL if issubclass(kind, errors.CallRefused)]


def drawn() -> dict[str, str]:
    """Return child → parent from the tree in the module docstring."""
    parents, above = {}, {-1: "Exception"}
    for line in errors.__doc__.splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not hasattr(errors, name):
            continue
        depth = len(line) - len(line.lstrip(" │├└─"))
        above = {d: kind for d, kind in above.items() if d < depth}
        parents[name] = above[max(above)]
        above[depth] = name
    return parents


def test_the_documented_tree_is_complete():
    """Every error is in the documented tree, below its base class."""
    real = {
        kind.__name__: next(b for b in kind.__bases__ if issubclass(b, BaseException)).__name__
        for kind in ALL
    }

    assert drawn() == real


def test_every_error_is_exported():
    """Every error is in ``__all__`` of its module and at the top level."""
    found = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, BaseException)
    }

    assert found == set(errors.__all__)
    assert found <= set(keybrake.__all__)
    assert all(getattr(keybrake, name) is getattr(errors, name) for name in found)


def test_errors_have_builtin_base_classes():
    """Existing handlers for ValueError and ImportError catch them."""
    assert issubclass(keybrake.PolicyError, ValueError)
    assert issubclass(keybrake.UnsupportedSDK, ImportError)


@each("kind", REFUSALS)
def test_a_refusal_carries_its_fields(kind):
    """Each field is an attribute, and a field that was not given is None."""
    refusal = kind("No.", **FIELDS)

    assert refusal.fields == FIELDS
    assert str(refusal) == "No."
    assert kind.__name__ in repr(refusal)
    assert "cap_exceeded" in repr(refusal)
    assert kind("No.", reason="x").fields == dict.fromkeys(FIELDS) | {"reason": "x"}


@each("kind", REFUSALS)
def test_no_refusal_is_retryable(kind):
    """``retryable`` is False on the class and on the instance, for frameworks that check it."""
    assert kind.retryable is False
    assert kind("No.", reason="x").retryable is False


def same(one: BaseException, other: BaseException) -> bool:
    """Return whether two refusals have the same type, text and fields."""
    return (type(one), str(one), one.fields) == (type(other), str(other), other.fields)


@each("kind", REFUSALS)
def test_a_refusal_copies_and_pickles(kind):
    """Copy, deepcopy and every pickle protocol keep all fields."""
    refusal = kind("No.", **FIELDS)

    assert same(copy.copy(refusal), refusal)
    assert same(copy.deepcopy(refusal), refusal)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(refusal, protocol)), refusal)


@pytest.mark.parametrize(
    "error",
    [keybrake.PolicyError("p"), keybrake.UnsupportedSDK("u"), keybrake.LedgerError("l")],
)
def test_the_other_errors_pickle(error):
    """The other errors keep their text when they are pickled."""
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back)) == (type(error), str(error))


def refuse(fields: dict[str, object]) -> None:
    """Raise a refusal in the current process."""
    text = "No."
    raise errors.CapExceeded(text, **fields)


def test_a_refusal_crosses_a_process_pool():
    """A refusal in a worker of a pool is raised unchanged in the parent."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(refuse, FIELDS).exception()

    assert same(error, errors.CapExceeded("No.", **FIELDS))


# Out of the Stripe SDK


@pytest.fixture
def refusal(ledger_url, fake) -> errors.CallRefused:
    """Return the error of the real SDK for a call that does not fit."""
    with keybrake.run("invoice-agent", cap=1), pytest.raises(keybrake.CapExceeded) as refused:
        stripe.PaymentIntent.create(amount=5000, currency="usd")
    return refused.value


def test_from_stripe_a_refusal_is_also_a_stripe_error(refusal):
    """Handlers for StripeError and PermissionError catch it, and see a 403 that is not retried."""
    assert isinstance(refusal, stripe.PermissionError)
    assert isinstance(refusal, stripe.StripeError)
    assert type(refusal).__name__ == "CapExceeded"
    assert refusal.http_status == 403
    assert refusal.code == refusal.reason == "cap_exceeded"
    assert refusal.user_message == str(refusal)


def test_from_stripe_a_refusal_has_all_amounts(refusal):
    """The text has the cap, the requested amount, the remainder and a hint, and says not to retry."""
    text = str(refusal)

    assert (refusal.cap, refusal.requested, refusal.remaining) == (1, 50, 1)
    assert refusal.label == "invoice-agent"
    for part in ("invoice-agent", "stripe.payment_intents.create", "$50.00", "$1.00", "cap"):
        assert part in text
    assert "Nothing was sent" in text
    assert "Do not retry" in text


def test_from_stripe_a_refusal_copies_and_pickles(refusal):
    """The copy has both base classes."""
    for back in (
        copy.copy(refusal),
        copy.deepcopy(refusal),
        pickle.loads(pickle.dumps(refusal)),
    ):
        assert same(back, refusal)
        assert isinstance(back, stripe.PermissionError)
        assert back.http_status == 403


def pay_beyond_the_cap() -> None:
    """Open a run and exceed its cap, in the current process."""
    with keybrake.run("child", cap=1):
        stripe.PaymentIntent.create(amount=5000, currency="usd")


def test_from_stripe_a_refusal_crosses_a_process_pool(ledger_url, fake):
    """A refusal in a worker is raised in the parent, when it reads the result."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(pay_beyond_the_cap).exception()

    assert isinstance(error, keybrake.CapExceeded)
    assert isinstance(error, stripe.PermissionError)
    assert error.remaining == 1


def test_no_traceback_has_a_credential(refusal):
    """The printed traceback of a refusal contains no credential."""
    assert "sk_test_fake" not in "".join(traceback.format_exception(refusal))
