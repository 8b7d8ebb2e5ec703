"""
Compare the fake Stripe with fakes that other people wrote.

Each runs as a process of its own: localstripe out of the development environment,
stripe-stateful-mock out of npm. The same calls of the real SDK go to both sides, and what both
can do has to come out the same.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from keybrake.testing import FakeStripe

pytestmark = pytest.mark.crosscheck

Facts = dict[str, Any]
Card = Callable[[str, str], str]
Story = Callable[[Card], Iterator[Facts]]


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run *command* until the block ends, and wait until it listens on *port*."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "PORT": str(port)}
        )
        try:
            wait_for(server, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=10)


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until somebody listens on *port*."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail(f"{server.args} does not listen: {log.read_text()}")


@pytest.fixture(scope="module")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run localstripe, which is installed beside this Python or on the path."""
    beside = Path(sys.executable).with_name("localstripe")
    program = str(beside) if beside.exists() else shutil.which("localstripe")
    assert program, "localstripe is not installed: pip install localstripe"
    port = free_port()
    command = [program, "--port", str(port), "--from-scratch"]
    with serving(command, port, tmp_path_factory.mktemp("localstripe") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def stateful_mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run stripe-stateful-mock, from the path or freshly installed."""
    folder = tmp_path_factory.mktemp("stateful_mock")
    program = shutil.which("stripe-stateful-mock")
    if program is None:
        npm = shutil.which("npm")
        assert npm, "npm is not installed, and neither is stripe-stateful-mock"
        install = [npm, "install", "--no-audit", "--no-fund", "stripe-stateful-mock@0.0.16"]
        subprocess.run([*install, "--prefix", str(folder)], check=True, capture_output=True)
        program = str(folder / "node_modules" / ".bin" / "stripe-stateful-mock")
    port = free_port()
    with serving([program], port, folder / "log") as url:
        yield url


def tell(story: Story, url: str, card: Card) -> list[Facts]:
    """Return what *story* saw at *url*, where *card* makes the payment methods."""
    stripe.api_base = url
    return list(story(card))


def facts(call: Callable[[], Any], *fields: str) -> Facts:
    """Return the *fields* of what a call answers, or what its error says."""
    try:
        answer = call()
    except stripe.StripeError as error:
        return {"error": type(error).__name__, "status": error.http_status, "code": error.code}
    return {field: getattr(answer, field) for field in fields}


def charge_of(intent: stripe.PaymentIntent) -> stripe.Charge:
    """Return the charge of *intent*; localstripe has expanded it without being asked."""
    latest = intent.latest_charge
    return stripe.Charge.retrieve(latest) if isinstance(latest, str) else latest


def name_of_card(_number: str, name: str) -> str:
    """Return the name of a test card, which is all the fake knows."""
    return name


def method_of_card(number: str, _name: str) -> str:
    """Return a payment method made out of a card number, which is all localstripe knows."""
    details = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    return stripe.PaymentMethod.create(type="card", card=details).id


def intents(card: Card) -> Iterator[Facts]:
    """Create, confirm, capture, cancel, decline and refund intents."""
    seen = ("object", "status", "amount", "currency", "livemode", "capture_method")
    of_charge = ("status", "amount", "amount_refunded", "captured", "currency", "paid")
    of_refund = ("object", "status", "amount", "currency")
    create = stripe.PaymentIntent.create
    ask = {"amount": 1000, "currency": "usd"}
    good = card("4242424242424242", "pm_card_visa")

    bare = create(**ask)
    yield facts(lambda: bare, *seen)
    yield facts(lambda: stripe.PaymentIntent.cancel(bare.id), *seen)
    ready = create(**ask, payment_method=good)
    yield facts(lambda: ready, *seen)
    yield facts(lambda: stripe.PaymentIntent.confirm(ready.id), *seen)
    yield facts(lambda: charge_of(stripe.PaymentIntent.retrieve(ready.id)), *of_charge)
    held = create(**ask, payment_method=good, confirm=True, capture_method="manual")
    yield facts(lambda: held, *seen)
    yield facts(lambda: charge_of(held), *of_charge)
    yield facts(lambda: stripe.PaymentIntent.capture(held.id, amount_to_capture=400), *seen)
    yield facts(lambda: charge_of(stripe.PaymentIntent.retrieve(held.id)), *of_charge)
    paid = create(**ask, payment_method=good, confirm=True)
    yield facts(lambda: stripe.Refund.create(payment_intent=paid.id, amount=300), *of_refund)
    yield facts(lambda: charge_of(stripe.PaymentIntent.retrieve(paid.id)), *of_charge)
    bad = card("4000000000000341", "pm_card_chargeDeclined")
    yield facts(lambda: create(**ask, payment_method=bad, confirm=True))


def wrong_intents(_card: Card) -> Iterator[Facts]:
    """Ask for what cannot be, one way after the other; localstripe's codes are all None."""
    create = stripe.PaymentIntent.create
    for call in (
        lambda: create(currency="usd"),
        lambda: create(amount=100),
        lambda: create(amount=-1, currency="usd"),
        lambda: create(amount="x", currency="usd"),
        lambda: stripe.PaymentIntent.retrieve("pi_nobody"),
        lambda: stripe.Refund.retrieve("re_nobody"),
        lambda: stripe.Customer.retrieve("cus_nobody"),
        lambda: stripe.Balance.retrieve(api_key="pk_test_public"),
    ):
        yield {**facts(call), "code": None}


def old_charges(_card: Card) -> Iterator[Facts]:
    """Charge, capture, decline and refund without intents."""
    seen = ("object", "status", "amount", "currency", "captured", "amount_refunded", "paid")
    of_refund = ("object", "status", "amount", "currency")
    create, refund = stripe.Charge.create, stripe.Refund.create
    ask = {"amount": 1000, "currency": "usd"}

    whole = create(**ask, source="tok_visa")
    yield facts(lambda: whole, *seen)
    yield facts(lambda: refund(charge=whole.id, amount=300), *of_refund)
    yield facts(lambda: stripe.Charge.retrieve(whole.id), *seen)
    yield facts(lambda: refund(charge=whole.id, amount=701))
    yield facts(lambda: refund(charge=whole.id), *of_refund)
    yield facts(lambda: stripe.Charge.retrieve(whole.id), *seen, "refunded")
    yield facts(lambda: refund(charge=whole.id))
    held = create(**ask, source="tok_visa", capture=False)
    yield facts(lambda: held, *seen)
    captured = stripe.Charge.capture(held.id, amount=400)
    yield facts(lambda: captured, *seen, "amount_captured")
    yield facts(lambda: stripe.Charge.capture(held.id))
    for token in ("tok_chargeDeclined", "tok_chargeDeclinedInsufficientFunds"):
        yield facts(lambda token=token: create(**ask, source=token))


def wrong_charges(_card: Card) -> Iterator[Facts]:
    """Ask for what cannot be, one way after the other."""
    create = stripe.Charge.create
    for call in (
        lambda: create(amount=100, currency="usd"),
        lambda: create(amount=-1, currency="usd", source="tok_visa"),
        lambda: stripe.Charge.retrieve("ch_nobody"),
        lambda: stripe.Refund.retrieve("re_nobody"),
        lambda: stripe.Customer.retrieve("cus_nobody"),
    ):
        yield facts(call)


def one_key(_card: Card) -> Iterator[Facts]:
    """Send one idempotency key with the same, then with other parameters."""
    create = stripe.Charge.create
    key = str(uuid.uuid4())
    ask = {"currency": "usd", "source": "tok_visa", "idempotency_key": key}
    first, again = create(amount=1000, **ask), create(amount=1000, **ask)
    yield {"same": first.id == again.id}
    yield {**facts(lambda: create(amount=2000, **ask)), "code": None}


def paged(_card: Card) -> Iterator[Facts]:
    """Walk a list; stripe-stateful-mock gives the oldest first, so the order is left out."""
    made = {stripe.Customer.create(email=f"{n}@example.com").id for n in range(5)}
    seen: set[str] = set()
    cursor: Facts = {}
    while made - seen:
        page = stripe.Customer.list(limit=2, **cursor)
        cursor = {"starting_after": page.data[-1].id}
        yield {"new": len({item.id for item in page.data} - seen), "more": page.has_more}
        seen |= {item.id for item in page.data}


def customers(_card: Card) -> Iterator[Facts]:
    """Make, change and delete a customer."""
    made = stripe.Customer.create(name="Ada", metadata={"tea": "black"})
    changed = stripe.Customer.modify(made.id, email="ada@example.com", metadata={"milk": "no"})
    yield facts(lambda: changed, "object", "name", "email", "metadata", "livemode")
    yield facts(lambda: stripe.Customer.delete(made.id), "object", "deleted")


@pytest.mark.parametrize("story", [intents, wrong_intents, customers])
def test_localstripe_tells_the_same_story(fake: FakeStripe, localstripe, story):
    """What localstripe can do, the fake does the same way."""
    ours = tell(story, fake.url, name_of_card)

    assert ours == tell(story, localstripe, method_of_card)


@pytest.mark.parametrize("story", [old_charges, wrong_charges, one_key, paged])
def test_stripe_stateful_mock_tells_the_same_story(fake: FakeStripe, stateful_mock, story):
    """What stripe-stateful-mock can do, the fake does the same way."""
    ours = tell(story, fake.url, name_of_card)

    assert ours == tell(story, stateful_mock, name_of_card)
