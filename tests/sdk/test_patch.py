"""Do the hooks get in and out again, whoever else has wrapped the same place?"""

import functools
import inspect

import pytest
import stripe
import wrapt
from stripe._api_requestor import _APIRequestor

import keybrake
from keybrake import sdk

ASK = {"amount": 100, "currency": "usd"}
NAMES = ("request_raw", "request_raw_async")


def _now(name="request_raw"):
    return inspect.getattr_static(_APIRequestor, name)


@pytest.fixture
def unhooked():
    """Take the hooks out before a test, and put back what was there after it."""
    keybrake.uninstall()
    before = {name: _now(name) for name in NAMES}
    yield before
    keybrake.uninstall()
    for name, function in before.items():
        setattr(_APIRequestor, name, function)


def _wrapt(function, log):
    def wrapper(wrapped, _instance, args, kwargs):
        log.append("called")
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(function, wrapper)


def _closure(function, log):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        log.append("called")
        return function(*args, **kwargs)

    return wrapper


def _charges(cap=10):
    with keybrake.run("agent", cap=cap) as run:
        stripe.PaymentIntent.create(**ASK)
    return run.calls


def test_uninstall_restores_the_very_function(unhooked, ledger_url):
    """After uninstall() the class has the object it had before, and installing again works."""
    for _ in range(3):
        keybrake.install()
        assert all(_now(name) is not function for name, function in unhooked.items())
        keybrake.uninstall()
        assert all(_now(name) is function for name, function in unhooked.items())


def test_install_twice_is_once(unhooked, fake, ledger_url, rows):
    """Installing is idempotent: one event per call, the same object in place."""
    keybrake.install()
    hooked = _now()
    keybrake.install()
    keybrake.install()

    assert _now() is hooked
    assert _charges() == 1
    assert len(rows()) == 1


@pytest.mark.parametrize("wrap", [_wrapt, _closure])
def test_a_wrapper_below_survives(unhooked, fake, ledger_url, rows, wrap):
    """Somebody else's wrapper under ours stays as it is, through install and uninstall."""
    log = []
    theirs = wrap(_now(), log)
    _APIRequestor.request_raw = theirs
    keybrake.install()
    assert (_charges(), len(rows()), len(log)) == (1, 1, 1)
    keybrake.uninstall()
    assert _now() is theirs
    keybrake.install()
    assert (_charges(), len(rows()), len(log)) == (1, 2, 2)
    keybrake.uninstall()
    assert _now() is theirs


@pytest.mark.parametrize("found", [_now, lambda: _APIRequestor.request_raw], ids=["dict", "attr"])
@pytest.mark.parametrize("wrap", [_wrapt, _closure])
def test_a_wrapper_on_top_survives(unhooked, fake, ledger_url, rows, wrap, found):
    """Somebody else's wrapper over ours is not taken off, and a call is still one event."""
    log = []
    keybrake.install()
    theirs = wrap(found(), log)
    _APIRequestor.request_raw = theirs
    assert (_charges(), len(rows()), len(log)) == (1, 1, 1)

    keybrake.uninstall()
    assert _now() is theirs
    stripe.PaymentIntent.create(**ASK)
    assert (len(rows()), len(log)) == (1, 2)

    keybrake.install()
    assert (_charges(), len(rows()), len(log)) == (1, 2, 3)


def test_a_wrapper_on_top_that_goes_away(unhooked, fake, ledger_url, rows):
    """When the other wrapper goes first, uninstall() takes ours out as ever."""
    keybrake.install()
    ours = _now()
    _APIRequestor.request_raw = _closure(ours, [])
    keybrake.uninstall()
    _APIRequestor.request_raw = ours
    keybrake.install()
    assert (_charges(), len(rows())) == (1, 1)
    keybrake.uninstall()

    assert _now() is unhooked["request_raw"]


def test_somebody_took_our_hook_away(unhooked, fake, ledger_url, rows):
    """A hook that somebody threw out is put in again by the next run."""
    keybrake.install()
    _APIRequestor.request_raw = unhooked["request_raw"]

    assert (_charges(), len(rows())) == (1, 1)


def test_uninstall_is_refused_while_a_run_is_open(fake, ledger_url, rows):
    """Nobody switches the guard off under a run that stands."""
    with keybrake.run("agent", cap=1):
        with pytest.raises(keybrake.PolicyError):
            keybrake.uninstall()
        stripe.PaymentIntent.create(**ASK)
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(**ASK)

    assert [row["state"] for row in rows()] == ["settled", "refused"]


def test_status(unhooked):
    """The status of every hook says whether it is in place."""
    keybrake.install()
    assert dict(sdk.status())["stripe._api_requestor._APIRequestor.request_raw"] == "in place"
    keybrake.uninstall()
    assert dict(sdk.status())["stripe._api_requestor._APIRequestor.request_raw"] == "missing"


def test_a_chokepoint_that_changes_shape_is_refused(unhooked, ledger_url):
    """A chokepoint that lost a parameter is not hooked as if it were the old one."""

    def request_raw(self, verb, url, params=None, options=None):
        raise AssertionError

    _APIRequestor.request_raw = request_raw
    with pytest.raises(keybrake.UnsupportedSDK, match="has no parameter"):
        keybrake.install()
    with pytest.raises(keybrake.UnsupportedSDK), keybrake.run("agent", cap=1):
        pass
