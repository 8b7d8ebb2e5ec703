"""Does a run follow into threads whatever tracers, mocks and pools do with the same methods."""

import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from unittest import mock

import pytest
import stripe
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

import keybrake

ASK = {"amount": 100, "currency": "usd"}


def charge():
    """Make a charge of $1, and return its amount."""
    return stripe.PaymentIntent.create(**ASK).amount


def in_thread(function, kind=threading.Thread):
    """Run a function in a thread, and return or raise its result."""
    told = []

    def work():
        try:
            told.append(function())
        except Exception as error:  # noqa: BLE001 -- raised again by the caller
            told.append(error)

    thread = kind(0.0, work) if kind is threading.Timer else kind(target=work)
    thread.start()
    thread.join()
    if isinstance(told[0], Exception):
        raise told[0]
    return told[0]


@pytest.mark.parametrize("order", ["before", "after"])
def test_under_sentry(fake, ledger_url, order):
    """Sentry's threading integration wraps Thread.run: a run follows, in whichever order they were set up."""
    program = """
        import sys, threading
        import sentry_sdk, stripe, keybrake
        from concurrent.futures import ThreadPoolExecutor
        order, url, ledger = sys.argv[1:]
        stripe.api_base, stripe.api_key, stripe.max_network_retries = url, "sk_test_1", 0
        keybrake.install() if order == "after" else None
        sentry_sdk.init()
        told = []
        def charge():
            try:
                stripe.PaymentIntent.create(amount=100, currency="usd")
                told.append("went")
            except keybrake.CapExceeded:
                told.append("refused")
        class Own(threading.Thread):
            def run(self):
                charge()
        with keybrake.run("agent", cap=3, ledger=ledger) as run:
            charge_id = stripe.Charge.create(amount=100, currency="usd", source="tok_visa").id
            for thread in (threading.Thread(target=charge), Own(), threading.Timer(0, charge)):
                thread.start()
                thread.join()
            with ThreadPoolExecutor() as pool:
                pool.submit(charge).result()
        with keybrake.run("refunds", cap=3, ledger=ledger) as other:
            stripe.Refund.create(charge=charge_id)  # looked up in a thread of keybrake's own
        print(told, run.calls, other.spent)
    """
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            textwrap.dedent(program),
            order,
            fake.url,
            ledger_url,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout == "['went', 'went', 'refused', 'refused'] 3 1.00\n", done.stderr


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_tracer_that_goes_takes_no_run_along(fake, ledger_url, order):
    """OpenTelemetry's uninstrument() takes wrappers out: runs still follow into threads and pools."""
    tracer = ThreadingInstrumentor()
    if order == "before":
        keybrake.install()
    tracer.instrument()
    keybrake.install()
    with keybrake.run("agent", cap=3):
        tracer.uninstrument()
        assert in_thread(charge) == 100
        assert in_thread(charge, threading.Timer) == 100
        with ThreadPoolExecutor() as pool:
            assert pool.submit(charge).result() == 100
            with pytest.raises(keybrake.CapExceeded):
                pool.submit(charge).result()


def test_a_mock_that_ends_takes_no_run_along(fake, ledger_url):
    """A mock of Thread.start and submit that was there first puts back what it found: runs still follow."""
    keybrake.uninstall()
    start = mock.patch.object(threading.Thread, "start", threading.Thread.start)
    submit = mock.patch.object(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    start.start()
    submit.start()
    with keybrake.run("agent", cap=2):
        start.stop()
        submit.stop()
        assert in_thread(charge) == 100
        with ThreadPoolExecutor() as pool:
            assert pool.submit(charge).result() == 100
        with pytest.raises(keybrake.CapExceeded):
            in_thread(charge)


def test_every_wrapper_that_calls_run_as_a_method(fake, ledger_url, monkeypatch):
    """A tracer that calls the class's run with the thread as its argument meets nothing of ours there."""
    plain = threading.Thread.run

    def traced(self):
        return plain(self)

    with keybrake.run("agent", cap=1):
        monkeypatch.setattr(threading.Thread, "run", traced)
        assert in_thread(charge) == 100
        with pytest.raises(keybrake.CapExceeded), ThreadPool(1) as pool:
            pool.apply(charge)


def test_a_pools_old_worker_keeps_no_run(fake, ledger_url):
    """A worker that was started inside a run does not carry that run to work of another."""
    with ThreadPoolExecutor(1) as pool:
        with keybrake.run("first", cap=1):
            assert pool.submit(charge).result() == 100
        with keybrake.run("second", cap=1) as second:
            assert pool.submit(charge).result() == 100
    assert second.calls == 1
