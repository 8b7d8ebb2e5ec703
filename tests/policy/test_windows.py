"""Do windows of time hold: UTC edges, no reset, no way back, whatever the clock says?"""

from datetime import UTC, datetime, timedelta

import pytest
import stripe

import keybrake
from keybrake import Limit
from keybrake.model import clock as ledger_clock
from keybrake.testing import Fault

CREATE = "stripe.payment_intents.create"


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = datetime(2026, 11, 23, 12, tzinfo=UTC)
        monkeypatch.setattr(
            ledger_clock, "now", lambda: (self.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        )  # fmt: skip

    def set(self, text: str) -> None:
        """Show a moment in UTC, earlier or later."""
        self.at = datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def ledger_url(unmade_ledger: str) -> str:
    """Name a ledger that is made under the clock of the test: no ledger goes back behind its making."""
    return unmade_ledger


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Put a clock in place that the test sets."""
    return Clock(monkeypatch)


def pay(dollars: int = 1) -> stripe.PaymentIntent:
    """Charge through the real SDK."""
    return stripe.PaymentIntent.create(amount=dollars * 100, currency="usd")


def refused(dollars: int = 1) -> bool:
    """Return whether a charge is refused for its limit."""
    try:
        pay(dollars)
    except (keybrake.CapExceeded, keybrake.CallLimitReached):
        return True
    return False


EDGES = [
    ("hour", "2026-11-23 12:00", "2026-11-23 12:59:59.999999", "2026-11-23 13:00"),
    ("day", "2026-11-23 00:00", "2026-11-23 23:59:59.999999", "2026-11-24 00:00"),
    ("day", "2028-02-28 10:00", "2028-02-28 23:59:59.999999", "2028-02-29 00:00"),
    ("month", "2026-02-01 00:00", "2026-02-28 23:59:59.999999", "2026-03-01 00:00"),
    ("month", "2026-12-05 00:00", "2026-12-31 23:59:59.999999", "2027-01-01 00:00"),
    ("90m", "2026-11-23 12:00:00", "2026-11-23 13:30:59.999999", "2026-11-23 13:31:00"),
    ("90m", "2026-11-23 12:00:59", "2026-11-23 13:30:59.999999", "2026-11-23 13:31:00"),
    ("1m", "2026-11-23 12:00:30", "2026-11-23 12:01:59.999999", "2026-11-23 12:02:00"),
    ("24h", "2026-11-23 12:00", "2026-11-24 12:00:59.999999", "2026-11-24 12:01:00"),
]


@pytest.mark.parametrize("window", EDGES, ids=" ".join)
@pytest.mark.parametrize("what", ["cap", "max_calls"])
def test_a_window_ends_on_its_edge(ledger_url, fake, clock, what, window):
    """Full from its first to its last microsecond, a window is open again with the next one."""
    per, first, last, after = window
    limit = Limit(cap=2, per=per) if what == "cap" else Limit(max_calls=1, per=per)
    clock.set(first)
    with keybrake.run("agent", cap=None, limits={CREATE: limit}, expires_in=None):
        pay(2)
        assert refused()
        clock.set(last)
        assert refused()
        clock.set(after)
        pay(2)
        assert refused()


def test_a_limit_per_run_never_ends(ledger_url, fake, clock):
    """``per="run"`` counts over the whole run, however long it lives."""
    with keybrake.run("agent", cap=None, limits={CREATE: Limit(cap=2)}, expires_in=None):
        pay(2)
        clock.set("2029-01-01 00:00")
        assert refused()


def test_a_rolling_window_lets_go_of_the_oldest_first(ledger_url, fake, clock):
    """What was spent at different minutes comes back minute by minute."""
    limits = {CREATE: Limit(cap=3, per="60m")}
    with keybrake.run("agent", cap=None, limits=limits, expires_in=None):
        pay(1)
        clock.set("2026-11-23 12:30")
        pay(2)
        clock.set("2026-11-23 13:00:59")
        assert refused(1)
        clock.set("2026-11-23 13:01")
        assert refused(2)
        pay(1)
        clock.set("2026-11-23 13:31")
        pay(2)
        assert refused(1)


def test_the_daily_cap_is_per_utc_day_and_over_every_endpoint(ledger_url, fake, clock):
    """A refusal says which day is meant; midnight in UTC begins a new one."""
    clock.set("2026-11-23 23:59:59.999999")
    with keybrake.run("agent", cap=5, daily_usd_cap=2, expires_in=None):
        charge = stripe.Charge.create(amount=200, currency="usd", source="tok_visa")
        with pytest.raises(keybrake.CapExceeded, match="per UTC day") as caught:
            pay(1)
        assert caught.value.scope == "run daily_usd_cap"
        assert (caught.value.cap, caught.value.remaining) == (2, 0)
        clock.set("2026-11-24 00:00")
        pay(2)
        stripe.Charge.retrieve(charge.id)
        clock.set("2026-11-25 00:00")
        pay(1)
        with pytest.raises(keybrake.CapExceeded) as caught:
            pay(1)
        assert caught.value.scope == "run cap"


def test_an_unknown_call_counts_in_the_day_of_its_admission(ledger_url, fake, clock):
    """Nobody knows yet what it cost, so the day it was made in keeps its reservation."""
    fake.inject(Fault("reset_after"))
    with keybrake.run("agent", cap=None, daily_usd_cap=2) as run:
        with pytest.raises(stripe.APIConnectionError):
            pay(2)
        assert refused(1)
        clock.set("2026-11-24 00:00")
        pay(2)

    assert (run.reserved, run.spent) == (2, 2)


def test_a_call_over_midnight_counts_in_the_day_it_was_admitted(ledger_url, fake, clock):
    """Its cost replaces the reservation where that stands, not where the answer came in."""
    with keybrake.run("agent", cap=None, daily_usd_cap=2):
        clock.set("2026-11-23 23:59:59")
        fake.inject(Fault("slow", delay=0, when=lambda _: clock.set("2026-11-24 00:00") is None))
        pay(2)
        pay(2)
        assert refused(1)


@pytest.mark.parametrize("per", ["hour", "day", "month", "90m"])
def test_a_clock_set_back_reopens_nothing(ledger_url, fake, clock, per):
    """Ledger time stands where it was, and so does what the window counts."""
    clock.set("2026-11-23 12:30")
    limits = {CREATE: Limit(cap=2, per=per)}
    with keybrake.run("agent", cap=None, limits=limits, expires_in=None):
        pay(2)
        for earlier in ("2026-11-23 10:00", "2026-11-20 12:00", "2026-09-01 00:00", "1999-12-31"):
            clock.set(earlier)
            assert refused(1)


def test_a_day_that_is_over_stays_over(ledger_url, fake, clock):
    """Set back into yesterday, a clock does not bring back what was left of it."""
    with keybrake.run("agent", cap=None, daily_usd_cap=2, expires_in=None):
        pay(1)
        clock.set("2026-11-24 12:00")
        pay(2)
        clock.set("2026-11-23 12:00")
        assert refused(1)


def test_a_clock_set_back_does_not_revive_an_expired_run(ledger_url, fake, clock):
    """Once the ledger has seen the end of a run, the run has ended."""
    with keybrake.run("agent", cap=9, expires_in="1h") as run:
        clock.set("2026-11-23 13:00")
        for moment in ("2026-11-23 13:00", "2026-11-23 12:00", "2020-01-01 00:00"):
            clock.set(moment)
            with pytest.raises(keybrake.RunExpired):
                pay()
            assert run.state == "expired"
        with pytest.raises(keybrake.LedgerError, match="is expired"):
            run.pause()


def test_a_run_opened_by_a_slow_clock_is_not_born_expired(ledger_url, fake, clock):
    """A run lives for as long as it was given, counted from ledger time."""
    with keybrake.run("early", cap=9, expires_in=None):
        pay()
    clock.set("2026-11-20 00:00")
    with keybrake.run("late", cap=9, expires_in="1h"):
        pay()


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [
        (CREATE, True),
        ("stripe.payment_intents.*", True),
        ("stripe.*.create", True),
        ("stripe.*.*", True),
        ("POST stripe:/v1/payment_intents", True),
        ("POST stripe:/v1/*", True),
        ("GET stripe:/v1/payment_intents", False),
        ("POST stripe:/v1/payment_intents/*", False),
        ("stripe.charges.create", False),
        ("stripe.*.list", False),
    ],
)
def test_a_limit_counts_what_its_pattern_means(ledger_url, fake, pattern, counts):
    """Other calls are neither counted by the limit nor refused for it."""
    with keybrake.run("agent", cap=None, limits={pattern: Limit(max_calls=1, per="day")}):
        pay()
        assert refused() is counts


def test_a_path_pattern_limits_one_method_and_depth(ledger_url, fake):
    """``GET stripe:/v1/payment_intents/*`` means reading one intent, nothing else."""
    limits = {"GET stripe:/v1/payment_intents/*": Limit(max_calls=1)}
    with keybrake.run("agent", cap=None, limits=limits):
        intent = pay()
        stripe.PaymentIntent.list()
        stripe.PaymentIntent.retrieve(intent.id)
        with pytest.raises(keybrake.CallLimitReached, match="GET stripe:/v1/payment_intents"):
            stripe.PaymentIntent.retrieve(intent.id)
        stripe.PaymentIntent.cancel(intent.id)


def test_every_limit_that_means_a_call_binds_it(ledger_url, fake):
    """The narrowest of several limits refuses, whichever it is."""
    limits = {
        "stripe.*.create": Limit(cap=5, per="hour"),
        "stripe.payment_intents.*": Limit(cap=3, per="run"),
    }
    with keybrake.run("agent", cap=None, limits=limits):
        pay(3)
        with pytest.raises(keybrake.CapExceeded) as caught:
            pay(1)
        assert caught.value.scope == "run limits[stripe.payment_intents.*] per run"
        stripe.Charge.create(amount=200, currency="usd", source="tok_visa")
        with pytest.raises(keybrake.CapExceeded) as caught:
            stripe.Charge.create(amount=100, currency="usd", source="tok_visa")
        assert caught.value.scope == "run limits[stripe.*.create] per hour"
