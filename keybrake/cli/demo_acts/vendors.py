"""Two more acts of the demo: one cap over three vendors, and an answer that got lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

import keybrake
from keybrake.cli.demo_acts.stage import Stage
from keybrake.errors import CapExceeded, KeybrakeError
from keybrake.testing import FakeResend, FakeStripe, FakeTwilio, Fault

Tell = Callable[[], object]

_CAP = "0.10"
_TRIES = 20
_KEY = "sk_test_demo"
_RECONCILE_TIMEOUT_S = 25
# Of the demo, not of a price list: a price by destination is the operator's to give.
PRICES = {"twilio": {"sms_segment": {"+1": "0.0145"}}}


def greet(stage: Stage, url: str) -> None:
    """
    Let an agent text and mail a guest, again and again, until its ten cents are used up.

    Raises:
        KeybrakeError: Nothing stopped it.
    """
    stage.act(3, "Ten cents for everything: one cap, three vendors")
    stage.say("concierge should tell one guest that the table is ready. It takes its own message")
    stage.say("for a new request. Texts are counted by segment, emails by recipient.")
    stage.say("")
    stage.rest(4)
    with FakeTwilio() as texts, FakeResend() as mails, _pointed_at(texts, mails) as (phone, post):
        with keybrake.run("concierge", cap=_CAP, ledger=url) as run:
            _greet_until_refused(stage, run, phone, post)
        sent = len(texts.journal.moved("message")), len(mails.journal.moved("email"))
    stage.say("")
    stage.say(
        f"The vendors' own journals have {sent[0]} texts and {sent[1]} emails: ",
        (f"${run.spent} of ${_CAP}", "bold green"),
        ".",
    )


def _greet_until_refused(stage: Stage, run: keybrake.Run, phone: Tell, post: Tell) -> None:
    for number in range(1, _TRIES + 1):
        for what, tell in ((f"text, number {number}", phone), (f"email, number {number}", post)):
            try:
                tell()
            except CapExceeded as refusal:
                stage.refused(run.label, what, f"only ${refusal.remaining} of ${_CAP} is left")
                return
            stage.say(
                (f"  {run.label:<14}", "bold"),
                f"{what:<34}",
                ("sent     ", "green"),
                (f"${run.spent} of ${_CAP}", "dim"),
            )
            stage.rest()
    msg = "the concierge was not stopped at its cap"
    raise KeybrakeError(msg)


@contextmanager
def _pointed_at(texts: FakeTwilio, mails: FakeResend) -> Iterator[tuple[Tell, Tell]]:
    """Have both SDKs talk to the fakes; yield what sends a text and what sends an email."""
    import resend

    client = texts.client()
    before = resend.api_key, resend.api_url
    resend.api_key, resend.api_url = "re_demo", mails.url
    email: Any = {
        "from": "concierge@example.com",
        "to": "guest@example.com",
        "subject": "Your table",
        "text": "It is ready.",
    }
    try:
        yield (
            lambda: client.messages.create(
                to="+14155550100", from_="+14155550199", body="Your table is ready."
            ),
            lambda: resend.Emails.send(email),
        )
    finally:
        resend.api_key, resend.api_url = before


def lose_an_answer(stage: Stage, url: str, fake: FakeStripe) -> None:
    """
    Charge once, lose the answer, and let another process find out what became of it.

    Raises:
        KeybrakeError: It was not found out.
    """
    stage.act(4, "An answer is lost")
    stage.say("Stripe charges the card, and the connection breaks before it says so. The charge")
    stage.say("counts in full until somebody knows.")
    stage.say("")
    stage.rest(4)
    fake.inject(Fault("reset_after"))
    retries, stripe.max_network_retries = stripe.max_network_retries, 0
    try:
        with keybrake.run("renewal-agent", cap=50, ledger=url) as run:
            stripe.PaymentIntent.create(
                amount=1900, currency="usd", payment_method="pm_card_visa", confirm=True
            )
    except stripe.APIConnectionError:
        what = "charge $19.00 for a renewal"
        stage.say(
            (f"  {run.label:<14}", "bold"),
            f"{what:<34}",
            ("UNKNOWN  ", "bold yellow"),
            (f"spent ${run.spent}, reserved ${run.reserved}", "yellow"),
        )
    finally:
        stripe.max_network_retries = retries
    stage.rest(4)
    stage.say("")
    _reconcile_elsewhere(stage, url, run.id, fake)
    stage.say(
        f"  {run.label}: spent ", (f"${run.spent}", "bold green"), f", reserved ${run.reserved}"
    )
    if run.reserved:
        msg = "the lost charge was not found again"
        raise KeybrakeError(msg)


def _reconcile_elsewhere(stage: Stage, url: str, run_id: str, fake: FakeStripe) -> None:
    """Ask the vendor as a person would: with a command in another process."""
    stage.command("keybrake reconcile")
    with tempfile.TemporaryDirectory(prefix="keybrake-demo-") as folder:
        config = Path(folder) / "keybrake.toml"
        config.write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
        done = subprocess.run(  # noqa: S603 -- this very program
            [
                *(sys.executable, "-m", "keybrake", "--ledger", url),
                *("reconcile", "--run", run_id, "--json"),
            ],
            env={**os.environ, "KEYBRAKE_CONFIG": str(config), "STRIPE_API_KEY": _KEY},
            capture_output=True,
            text=True,
            timeout=_RECONCILE_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise KeybrakeError(done.stderr.strip().removeprefix("keybrake: "))
    stage.say(("  settled by what the vendor says, once", "bold yellow"))
