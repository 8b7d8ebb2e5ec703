"""The acts of the demo; at the end it compares the ledger with the journal of the fake vendor."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import stripe

import keybrake
from keybrake.cli.demo_acts.stage import Stage
from keybrake.cli.ui.call_rows import call_line, calls_table
from keybrake.cli.ui.ledger_pages import Book, Wanted
from keybrake.cli.ui.table import Column, Table
from keybrake.cli.ui.text import count, dollars
from keybrake.errors import CapExceeded, KeybrakeError, RunRevoked
from keybrake.testing import FakeResend, FakeStripe, FakeTwilio, Fault

Step = tuple[str, Callable[[], Any]]
"""The next step of an agent: a description, and the function that does it."""

_CENT = 10_000
_KEY = "sk_test_demo"
_QUERY = "SELECT label, spent_usd FROM spend_by_run"
_RUNS_SHOWN = 12
_COMMAND_TIMEOUT_S = 25
_TRIES = 150
_ORDERS_CENTS = (1200, 850, 2400, 1999, 640)
_ORDERS_AFTER = 2
_PACE_S = 0.3
# An example price for the demo: keybrake ships no prices by destination.
_PRICES = {"twilio": {"sms_segment": {"+1": "0.0145"}}}


def play(url: str, *, is_shown: bool = True) -> None:
    """
    Play the demo on the ledger at *url*; print nothing if *is_shown* is False.

    Raises:
        KeybrakeError: An agent was not stopped, or ledger and vendor do not agree.
    """
    stage = Stage(is_shown=is_shown)
    keybrake.configure(prices=_PRICES, refunds="gross")
    keybrake.open_ledger(url)
    with Book(url) as book:
        before = book.newest()
    with FakeStripe() as fake, _pointed_at(fake):
        stage.say(
            ("keybrake demo", "bold"),
            "  the vendors' real SDKs, fake vendors on this machine, no money",
        )
        stage.say((f"ledger: {url}", "dim"))
        payment = _runaway(stage, url, fake)
        _revoked(stage, url, payment)
        _three_vendors(stage, url)
        _lost_answer(stage, url, fake)
        _written_down(stage, url, fake, before)


@contextmanager
def _pointed_at(fake: FakeStripe) -> Iterator[None]:
    """Make the SDK talk to *fake*, without the proxy that the environment may set."""
    proxies = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    before = (stripe.api_base, stripe.api_key, stripe.enable_telemetry)
    os.environ.update(dict.fromkeys(proxies, "127.0.0.1"))
    stripe.api_base, stripe.api_key = fake.url, _KEY
    # With telemetry, newer SDKs write a file into the user's home folder.
    stripe.enable_telemetry = False
    try:
        yield
    finally:
        stripe.api_base, stripe.api_key, stripe.enable_telemetry = before
        for name, value in proxies.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _pay(cents: int) -> Any:
    return stripe.PaymentIntent.create(
        amount=cents, currency="usd", payment_method="pm_card_visa", confirm=True
    )


def _until_refused(stage: Stage, run: keybrake.Run, cap: str, steps: Iterable[Step]) -> Any:
    """
    Take one step after the other until one is refused; return the last answer.

    Raises:
        KeybrakeError: No step was refused.
    """
    answer = None
    for what, step in steps:
        try:
            answer = step()
        except (CapExceeded, RunRevoked) as refusal:
            why = "the run was revoked"
            if isinstance(refusal, CapExceeded):
                why = f"only ${refusal.remaining} of ${cap} is left"
            stage.refused(run.label, what, why)
            return answer
        stage.sent(run.label, what, run.spent, cap)
    msg = f"{run.label} was not stopped"
    raise KeybrakeError(msg)


def _elsewhere(url: str, *words: str, **environment: str) -> str:
    """Run a keybrake command in another process, as a person would; return its output."""
    done = subprocess.run(  # noqa: S603 -- runs only keybrake itself
        [sys.executable, "-m", "keybrake", "--ledger", url, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise KeybrakeError(done.stderr.strip().removeprefix("keybrake: "))
    return done.stdout.strip()


def _runaway(stage: Stage, url: str, fake: FakeStripe) -> str:
    stage.act(
        1,
        "A runaway agent meets its cap",
        "Its job is to charge one invoice, once. Its bug: it never learns that it was paid,",
        "so it charges again, and would do so 150 times: $4,498.50.",
        "",
        '    with keybrake.run("invoice-agent", cap=200):',
        "        stripe.PaymentIntent.create(amount=2999, …)",
    )
    with keybrake.run("invoice-agent", cap=200, ledger=url) as run:
        attempts = (f"charge $29.99, attempt {number}" for number in range(1, _TRIES + 1))
        payment = _until_refused(
            stage, run, "200", ((what, lambda: _pay(2999)) for what in attempts)
        )
    charges = fake.journal.moved("charge")
    stage.say("")
    stage.say(
        "Stripe's own journal counts ",
        (
            f"{count(len(charges), 'charge')}, {dollars(fake.journal.total('charge') * _CENT)}",
            "bold green",
        ),
        f" (meant: 1 charge, $29.99; tried: {len(charges) + 1}).",
    )
    stage.say("The last one was refused before a byte left this machine.")
    return str(payment.id)


def _revoked(stage: Stage, url: str, payment: str) -> None:
    stage.act(
        2,
        "A person presses the stop button",
        "refund-agent should refund one customer $2.50. It is far from its cap, but does not",
        "stop. A person revokes its run from another process; the other agent goes on.",
    )
    stopped = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_take_orders, stage, url, stopped)
        try:
            with keybrake.run("refund-agent", cap=200, ledger=url) as run:
                _until_refused(stage, run, "200", _refunds(stage, url, run, payment))
        finally:
            stopped.set()
        other.result()


def _refunds(stage: Stage, url: str, run: keybrake.Run, payment: str) -> Iterator[Step]:
    """Yield one refund after the other; after the third, another process revokes the run."""
    for number in range(1, 6):
        if number == 4:
            stage.command(f"keybrake revoke {run.id}")
            stage.say((f"  {_elsewhere(url, 'revoke', run.id)}", "bold yellow"))
        yield (
            f"refund $2.50, number {number}",
            lambda: stripe.Refund.create(payment_intent=payment, amount=250),
        )


def _take_orders(stage: Stage, url: str, stopped: threading.Event) -> None:
    """Take orders while the other agent is stopped, and two more after that."""
    after = 0
    with keybrake.run("order-agent", cap=500, ledger=url) as run:
        for cents in itertools.cycle(_ORDERS_CENTS):
            after += stopped.is_set()
            _pay(cents)
            stage.sent(run.label, f"charge ${cents / 100:.2f} for an order", run.spent, "500")
            if after == _ORDERS_AFTER:
                return
            time.sleep(_PACE_S)


def _three_vendors(stage: Stage, url: str) -> None:
    stage.act(
        3,
        "Ten cents for everything: one cap, three vendors",
        "concierge should tell one guest that the table is ready. It takes its own message",
        "for a new request. Texts are counted by segment, emails by recipient.",
    )
    with FakeTwilio() as texts, FakeResend() as mails:
        steps = closing(_messages(texts, mails))
        with steps as messages, keybrake.run("concierge", cap="0.10", ledger=url) as run:
            _until_refused(stage, run, "0.10", messages)
        sent = len(texts.journal.moved("message")), len(mails.journal.moved("email"))
    stage.say("")
    stage.say(
        f"The vendors' own journals have {sent[0]} texts and {sent[1]} emails: ",
        (f"${run.spent} of $0.10", "bold green"),
        ".",
    )


def _messages(texts: FakeTwilio, mails: FakeResend) -> Generator[Step]:
    """Yield texts and emails in turn, both SDKs talking to the fakes."""
    import resend

    client = texts.client()
    text = {"to": "+14155550100", "from_": "+14155550199", "body": "Your table is ready."}
    email: Any = {"from": "concierge@example.com", "to": "guest@example.com"}
    email |= {"subject": "Your table", "text": "It is ready."}
    before = resend.api_key, resend.api_url
    resend.api_key, resend.api_url = "re_demo", mails.url
    try:
        for number in range(1, _TRIES + 1):
            yield f"text, number {number}", lambda: client.messages.create(**text)
            yield f"email, number {number}", lambda: resend.Emails.send(email)
    finally:
        resend.api_key, resend.api_url = before


def _lost_answer(stage: Stage, url: str, fake: FakeStripe) -> None:
    """Charge once, lose the answer, and let another process find the outcome."""
    stage.act(
        4,
        "An answer is lost",
        "Stripe charges the card, and the connection breaks before it says so. The charge",
        "counts in full until its outcome is known.",
    )
    fake.inject(Fault("reset_after"))
    retries, stripe.max_network_retries = stripe.max_network_retries, 0
    try:
        with keybrake.run("renewal-agent", cap=50, ledger=url) as run:
            _pay(1900)
    except stripe.APIConnectionError:
        why = f"spent ${run.spent}, reserved ${run.reserved}"
        stage.line(run.label, "charge $19.00 for a renewal", "UNKNOWN", "yellow", why)
    finally:
        stripe.max_network_retries = retries
    stage.rest(4)
    stage.say("")
    stage.command("keybrake reconcile")
    with tempfile.TemporaryDirectory(prefix="keybrake-demo-") as folder:
        config = Path(folder) / "keybrake.toml"
        config.write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
        words = ("reconcile", "--run", run.id, "--json")
        _elsewhere(url, *words, KEYBRAKE_CONFIG=str(config), STRIPE_API_KEY=_KEY)
    stage.say(("  settled by what the vendor says, once", "bold yellow"))
    stage.say(
        f"  {run.label}: spent ", (f"${run.spent}", "bold green"), f", reserved ${run.reserved}"
    )
    if run.reserved:
        msg = "the lost charge was not found again"
        raise KeybrakeError(msg)


def _written_down(stage: Stage, url: str, fake: FakeStripe, before: int) -> None:
    stage.act(5, "It is all written down")
    stage.command("keybrake log")
    with Book(url) as book:
        rows = [row for page in book.calls(Wanted(), after=before) for row in page]
        stage.table(calls_table(), map(call_line, rows))
        stage.rest(4)
        stage.say("")
        stage.command(f'sqlite3 {book.path.name} "{_QUERY}"')
        found = book.connection.execute(_QUERY).fetchall()
    table = Table(Column("label", style="bold"), Column("spent_usd", right=True, style="green"))
    stage.table(table, ([label, str(spent)] for label, spent in found[-_RUNS_SHOWN:]))
    stage.rest(4)
    stage.say("")
    _compare(stage, rows, fake)
    stage.say("")
    stage.say("Look at it again:  ", (f"keybrake --ledger {url} runs", "bold"))


def _compare(stage: Stage, rows: Sequence[dict[str, Any]], fake: FakeStripe) -> None:
    """
    Compare the ledger with the journal of the fake vendor.

    Raises:
        KeybrakeError: They do not agree.
    """
    ledger = sum(row["cost_micros"] or 0 for row in rows if row["vendor"] == "stripe")
    journal = fake.journal.total() * _CENT
    charges, refunds = (len(fake.journal.moved(kind)) for kind in ("charge", "refund"))
    if ledger != journal:
        msg = f"the ledger counts {dollars(ledger)}, the vendor {dollars(journal)}"
        raise KeybrakeError(msg)
    stage.say(
        f"Stripe's own journal: {count(charges, 'charge')} and {count(refunds, 'refund')}, ",
        (dollars(journal), "bold green"),
        ". The ledger counts the same, to the cent.",
    )
