"""Does status() say of each SDK how it is hooked, and how many calls it guarded and did not."""

import subprocess
import sys
import textwrap

import pytest
import stripe

import keybrake


def of(vendor):
    """Return the status of one vendor's SDK."""
    return next(one for one in keybrake.status() if one.vendor == vendor)


def test_calls_are_counted_on_their_side(fake, ledger_url):
    """A guarded call, a refused one and one inside unguarded() are told apart."""
    before = of("stripe")
    with keybrake.run("agent", cap=1):
        stripe.PaymentIntent.create(amount=100, currency="usd")
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=100, currency="usd")
        with keybrake.unguarded("a test"):
            stripe.Customer.list()
    after = of("stripe")

    assert (after.vendor, after.hooks) == ("stripe", "in place")
    assert after.version == stripe.VERSION
    assert after.guarded - before.guarded == 2
    assert after.past_the_guard - before.past_the_guard == 1


def test_hooks_that_are_off():
    """Before install() and after uninstall() the hooks are off."""
    keybrake.install()
    keybrake.uninstall()

    assert {one.hooks for one in keybrake.status()} == {"off"}


UNENTERED = """
import keybrake, stripe, warnings
warnings.simplefilter("always")
stripe.api_base, stripe.api_key = {url!r}, "sk_test_1"
keybrake.install()
{lines}
"""


@pytest.mark.parametrize(
    ("lines", "warns"),
    [
        ("run = keybrake.run('agent', cap=5); stripe.Customer.list()", True),
        ("keybrake.run('agent', cap=5)", True),
        ("run = keybrake.run('agent', cap=5)", True),
        ("with keybrake.run('agent', cap=5): stripe.Customer.list()", False),
        ("@keybrake.run('agent', cap=5)\ndef f(): stripe.Customer.list()\nf()", False),
    ],
    ids=["called", "dropped", "kept", "entered", "decorated"],
)
def test_a_run_that_is_never_entered_warns(fake, ledger_url, lines, warns):
    """A run that guards nothing says so, with its label and the remedy; others say nothing."""
    done = subprocess.run(
        [sys.executable, "-c", UNENTERED.format(url=fake.url, lines=lines)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert ("never entered, so it guards nothing" in done.stderr) is warns
    if warns:
        assert "<Run 'agent'" in done.stderr
        assert "write `with keybrake.run(...):` around the calls" in done.stderr


def test_a_notebook_that_keeps_its_results_is_warned(fake, ledger_url):
    """An interactive session keeps each result alive: the warning comes with the first call."""
    cells = f"""
        import keybrake, stripe, warnings
        warnings.simplefilter("always")
        stripe.api_base, stripe.api_key = {fake.url!r}, "sk_test_1"
        keybrake.install()
        keybrake.run("agent", cap=5)
        stripe.Customer.list() and None
        print("after the call")
    """
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=textwrap.dedent(cells),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "a call of stripe.customers.list was made unguarded while <Run 'agent'" in done.stderr
    assert "after the call" in done.stdout
