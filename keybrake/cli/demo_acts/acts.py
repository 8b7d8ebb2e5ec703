"""What happens in the demo, act by act, and whether the vendor's own journal agrees with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import stripe

import keybrake
from keybrake.cli.demo_acts.agents import collect_invoice, refund, take_orders
from keybrake.cli.demo_acts.stage import Stage
from keybrake.cli.demo_acts.vendors import PRICES, greet, lose_an_answer
from keybrake.cli.ui.call_rows import call_line, calls_table
from keybrake.cli.ui.ledger_pages import Book, Wanted
from keybrake.cli.ui.table import Column, Table
from keybrake.cli.ui.text import count, dollars
from keybrake.errors import KeybrakeError
from keybrake.testing import FakeStripe

_CAP = 200
_ORDERS_CAP = 500
_CENT = 10_000
_MEANT = "meant: 1 charge, $29.99"
_QUERY = "SELECT label, spent_usd FROM spend_by_run"
_RUNS_SHOWN = 12
_REVOKE_TIMEOUT_S = 25
_REFUNDS_FIRST = 3
_GLANCE_S = 0.02


def play(url: str, *, is_shown: bool = True) -> None:
    """
    Play the demo on the ledger at *url*, for nobody to see unless it is shown.

    Raises:
        KeybrakeError: An agent was not stopped, or ledger and vendor do not agree.
    """
    stage = Stage(is_shown=is_shown)
    keybrake.configure(prices=PRICES, refunds="gross")
    before = _newest(url)
    with FakeStripe() as fake, _pointed_at(fake):
        stage.say(
            ("keybrake demo", "bold"),
            "  the vendors' real SDKs, fake vendors on this machine, no money",
        )
        stage.say((f"ledger: {url}", "dim"))
        payments = _runaway(stage, url, fake)
        _revoked(stage, url, payments)
        greet(stage, url)
        lose_an_answer(stage, url, fake)
        _written_down(stage, url, fake, before)


@contextmanager
def _pointed_at(fake: FakeStripe) -> Iterator[None]:
    """Have the SDK talk to *fake*, past whatever proxy the environment names."""
    proxies = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    before = (stripe.api_base, stripe.api_key, stripe.enable_telemetry)
    os.environ.update(dict.fromkeys(proxies, "127.0.0.1"))
    stripe.api_base, stripe.api_key = fake.url, "sk_test_demo"
    # Newer SDKs put a file into the user's home for it; a demo leaves nothing there.
    stripe.enable_telemetry = False
    try:
        yield
    finally:
        stripe.api_base, stripe.api_key, stripe.enable_telemetry = before
        for name, value in proxies.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _newest(url: str) -> int:
    keybrake.open_ledger(url)
    with Book(url) as book:
        return book.newest()


def _runaway(stage: Stage, url: str, fake: FakeStripe) -> list[str]:
    stage.act(1, "A runaway agent meets its cap")
    stage.say("Its job is to charge one invoice, once. Its bug: it never learns that it was paid,")
    stage.say("so it charges again, and would do so 150 times: $4,498.50.")
    stage.say("")
    stage.say(
        ("    with keybrake.run(", "dim"), ('"invoice-agent", cap=200', "bold"), ("):", "dim")
    )
    stage.say(("        stripe.PaymentIntent.create(amount=2999, …)", "dim"))
    stage.say("")
    stage.rest(4)
    with keybrake.run("invoice-agent", cap=_CAP, ledger=url) as run:
        payments = collect_invoice(stage, run, _CAP)
    charges = fake.journal.moved("charge")
    total = fake.journal.total("charge") * _CENT
    stage.say("")
    stage.say(
        "Stripe's own journal counts ",
        (f"{count(len(charges), 'charge')}, {dollars(total)}", "bold green"),
        f" ({_MEANT}; tried: {len(charges) + 1}).",
    )
    stage.say("The last one was refused before a byte left this machine.")
    return payments


def _revoked(stage: Stage, url: str, payments: Sequence[str]) -> None:
    stage.act(2, "Somebody presses the stop button")
    stage.say("refund-agent should refund one customer $2.50. It is far from its cap, but does not")
    stage.say("stop. A person revokes its run from another process; the other agent goes on.")
    stage.say("")
    stage.rest(4)
    refunds = keybrake.run("refund-agent", cap=_CAP, ledger=url)
    orders = keybrake.run("order-agent", cap=_ORDERS_CAP, ledger=url)
    stopped = threading.Event()

    def refunding() -> None:
        try:
            with refunds:
                refund(stage, refunds, _CAP, payments)
        finally:
            stopped.set()

    def ordering() -> None:
        with orders:
            take_orders(stage, orders, _ORDERS_CAP, stopped)

    with ThreadPoolExecutor(2) as pool:
        agents = [pool.submit(refunding), pool.submit(ordering)]
        try:
            while refunds.calls < _REFUNDS_FIRST and not stopped.wait(_GLANCE_S):
                pass
            _revoke_elsewhere(stage, url, refunds.id)
        except BaseException:
            # Whoever interrupts the demo does not wait for its agents.
            for run in (refunds, orders):
                with suppress(KeybrakeError):
                    run.revoke()
            raise
    for agent in agents:
        agent.result()


def _revoke_elsewhere(stage: Stage, url: str, run_id: str) -> None:
    """End a run as a person would: with a command in another process."""
    stage.command(f"keybrake revoke {run_id}")
    command = [sys.executable, "-m", "keybrake", "--ledger", url, "revoke", run_id]
    done = subprocess.run(  # noqa: S603 -- this very program
        command, capture_output=True, text=True, timeout=_REVOKE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise KeybrakeError(done.stderr.strip())
    stage.say((f"  {done.stdout.strip()}", "bold yellow"))


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
    Hold the ledger against the vendor's own journal.

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
