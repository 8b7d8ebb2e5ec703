"""The configuration is read as written; errors name file, key, value and remedy."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake import PolicyError
from keybrake.config import settings


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Return a function that writes the config file in force."""
    file = tmp_path / "conf" / "operator.toml"
    file.parent.mkdir()
    monkeypatch.setenv("KEYBRAKE_CONFIG", str(file))

    def write(text: str) -> Path:
        file.write_text(text, encoding="utf-8")
        settings.set_current(None)
        return file

    return write


def test_every_section_of_the_file_is_read(toml):
    """Every section of the file ends up in the configuration."""
    file = toml("""
        ledger = "sqlite:///here.db"
        proxies = ["http://proxy.example:3128/"]
        lock_timeout = 2.5
        durability = "process"
        [money]
        refunds = "gross"
        margin_bps = 0
        usd_per = { EUR = "1.1172", jpy = "0.00636" }
        [vendors.stripe]
        extra_hosts = ["http://127.0.0.1:12111", "https://proxy.example:8443/", "http://[::1]:1"]
        accounts = ["acct_1Abc"]
        [policies.refund-agent]
        cap = 200
    """)
    config = settings.current()

    assert (config.ledger, config.lock_timeout, config.durability) == (
        f"sqlite:///{file.parent / 'here.db'}",  # beside the file that names it
        2.5,
        "process",
    )
    assert config.money.usd_per == {"eur": Fraction("1.1172"), "jpy": Fraction("0.00636")}
    assert config.extra_hosts["stripe"] == (
        "http://127.0.0.1:12111",
        "https://proxy.example:8443",
        "http://[::1]:1",
    )
    assert config.accounts == {"stripe": ("acct_1Abc",)}
    assert config.proxies == ("http://proxy.example:3128",)
    assert config.source == str(file)
    assert list(config.policies) == ["refund-agent"]


def test_a_margin_is_added_to_every_rate_but_the_dollar():
    """The margin is two percent by default, none on USD, and an unlisted currency has no rate."""
    money = settings.Money(usd_per={"eur": Fraction("1.1")})

    assert money.rate("usd") == 1
    assert money.rate("eur") == Fraction("1.122")
    assert money.rate("gbp") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ledgre = 'x'", "unknown key 'ledgre'; known are credentials, durability, ledger"),
        ('ledger = "ledger.db"', "ledger='ledger.db' is no ledger; write sqlite:///"),
        ("ledger = 5", "ledger=5 is no ledger"),
        ("ledger = ''", "ledger='' is no ledger"),
        ("lock_timeout = 0", "lock_timeout=0 is not a number of seconds"),
        ("lock_timeout = true", "lock_timeout=True is not"),
        ("lock_timeout = nan", "lock_timeout=Decimal('NaN') is not"),
        ("lock_timeout = 601", "lock_timeout=601 is not"),
        ("lock_timeout = '5'", "lock_timeout='5' is not"),
        ("durability = 'none'", "durability='none' is unknown; write"),
        ("durability = true", "durability=True is unknown"),
        ("money = 5", "money=5 is not a table"),
        ("[money]\nmargin = 1", "money: unknown key 'margin'"),
        ("[money]\nrefunds = 'nett'", "money.refunds='nett' is unknown"),
        ("[money]\nmargin_bps = -1", "money.margin_bps=-1 is not a whole number"),
        ("[money]\nmargin_bps = true", "money.margin_bps=True is not"),
        ("[money]\nmargin_bps = 1.5", "money.margin_bps=Decimal('1.5') is not"),
        ("[money]\nmargin_bps = 10001", "money.margin_bps=10001 is not"),
        ("[money]\nclimate_fee_margin_bps = '3'", "money.climate_fee_margin_bps='3' is not a whole"),
        ("[money]\necb = 1", "money.ecb=1 is unknown; write true or false"),
        ("[money]\necb_max_age_days = 0", "money.ecb_max_age_days=0 is not a whole number of days"),
        ("[prices.twilio]\nsms_segment = { 44 = '1' }", "prices.twilio.sms_segment: '44' is not a destination; write \"+44\""),
        ("[money]\nusd_per = 5", "money.usd_per=5 is not a table"),
        ("[money]\nusd_per = { EURO = '1' }", "'EURO' is not a currency code"),
        ("[money]\nusd_per = { '\u0415UR' = '1' }", "is not a currency code"),
        ("[money]\nusd_per = { EUR = '0' }", "money.usd_per.EUR='0' is not a rate"),
        ("[money]\nusd_per = { EUR = '-1' }", "EUR='-1' is not a rate"),
        ("[money]\nusd_per = { EUR = 1.1 }", "EUR=Decimal('1.1') is not a rate"),
        ("[money]\nusd_per = { EUR = 1 }", "EUR=1 is not a rate"),
        ("[money]\nusd_per = { EUR = true }", "EUR=True is not a rate"),
        ("[money]\nusd_per = { EUR = 'NaN' }", "EUR='NaN' is not a rate"),
        ("[money]\nusd_per = { EUR = 'sNaN' }", "EUR='sNaN' is not a rate"),
        ("[money]\nusd_per = { EUR = 'inf' }", "EUR='inf' is not a rate"),
        ("[money]\nusd_per = { EUR = '1e999999' }", "EUR='1e999999' is not a rate"),
        ("[money]\nusd_per = { EUR = '1e-999999' }", "EUR='1e-999999' is not a rate"),
        ("[money]\nusd_per = { EUR = 'one' }", "EUR='one' is not a rate"),
        ("[money]\nusd_per = { EUR = '1_1' }", "EUR='1_1' is not a rate"),
        ("[money]\nusd_per = { EUR = ' 1.1' }", "EUR=' 1.1' is not a rate"),
        ("[money]\nusd_per = { EUR = '\u0661' }", "is not a rate"),
        ("[vendors.stripee]", "vendors: unknown key 'stripee'"),
        ("[vendors.stripe]\nhosts = []", "vendors.stripe: unknown key 'hosts'"),
        ("[vendors]\nstripe = 5", "vendors.stripe=5 is not a table"),
        ("[vendors.stripe]\nextra_hosts = 'http://127.0.0.1'", "is not a list"),
        ("[vendors.stripe]\nextra_hosts = ['http://example.com']", "unencrypted; use https"),
        ("[vendors.stripe]\nextra_hosts = ['http://127.0.0.1.evil.test']", "unencrypted"),
        ("[vendors.stripe]\nextra_hosts = ['http://localhost@evil.test']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://user@example.com']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://u:p@example.com']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://example.com/v1']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://example.com?a=b']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://example.com:99999']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://[::1']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['example.com']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['ftp://example.com']", "use https"),
        ("[vendors.stripe]\nextra_hosts = ['']", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = [5]", "is not an origin"),
        ("[vendors.stripe]\nextra_hosts = ['https://exam\\nple.com']", "is not an origin"),
        ('[vendors.stripe]\nextra_hosts = ["https://exam\\nple.com"]', "is not an origin"),
        ("[vendors.stripe]\naccounts = 'acct_1'", "vendors.stripe.accounts='acct_1' is not a list"),
        ("[vendors.stripe]\naccounts = ['acct 1']", "accounts: 'acct 1' is no account"),
        ("[vendors.stripe]\naccounts = [5]", "accounts: 5 is no account"),
        ("proxies = 'http://proxy.test'", "proxies='http://proxy.test' is not a list"),
        ("proxies = ['proxy.test:3128']", "proxies: 'proxy.test:3128' is not an origin"),
        ("proxies = ['http://me:pw@proxy.test']", "is not an origin"),
        ("proxies = ['socks5://proxy.test']", "use https"),
        ("policies = 5", "policies holds something that is not a table"),
        ("[policies]\na = 5", "policies holds something that is not a table"),
        ("a = [", "cannot be read"),
        ("ledger = 'a'\nledger = 'b'", "cannot be read"),
        ("[money]\n[money]", "cannot be read"),
    ],
)  # fmt: skip
def test_an_invalid_setting_names_the_file_and_the_key(toml, tmp_path, text, told):
    """Unknown keys, bad values and broken files are errors before anything is written."""
    file = toml(text)
    with pytest.raises(PolicyError) as refused:
        keybrake.open_ledger()

    assert str(refused.value).startswith(str(file))
    assert told in str(refused.value)
    assert not (tmp_path / "state").exists()


def test_a_file_must_be_utf8(toml):
    """Bytes that are not UTF-8 are a PolicyError with the file's name."""
    file = toml("")
    file.write_bytes(b"ledger = '\xff'")
    with pytest.raises(PolicyError, match=r"operator.toml: cannot be read"):
        settings.current()


def test_a_number_too_long_to_print_in_a_file_is_refused(toml):
    """A number of 5,000 digits in a config file is a PolicyError that names the file."""
    toml(f"lock_timeout = 1{'0' * 5000}")
    with pytest.raises(PolicyError, match=r"operator.toml"):
        settings.current()


@pytest.mark.parametrize("named", ["nowhere.toml", ".", "/"])
def test_keybrake_config_must_name_a_file(monkeypatch, named):
    """A KEYBRAKE_CONFIG without a file is an error, not an empty configuration."""
    monkeypatch.setenv("KEYBRAKE_CONFIG", named)
    with pytest.raises(PolicyError, match=f"KEYBRAKE_CONFIG='{named}' is no file; correct"):
        keybrake.run("a", policy="x")
    with pytest.raises(PolicyError, match="KEYBRAKE_CONFIG"), keybrake.run("a", cap=1):
        pass


def test_a_file_in_the_working_directory_is_found(tmp_path, monkeypatch):
    """Without KEYBRAKE_CONFIG, or with an empty one, the file in the working directory is read."""
    (tmp_path / "keybrake.toml").write_text('ledger = "sqlite:///local.db"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEYBRAKE_CONFIG", "")

    assert settings.current().ledger == f"sqlite:///{tmp_path / 'local.db'}"


def test_the_environment_goes_before_the_file(toml, monkeypatch):
    """``KEYBRAKE_LEDGER`` wins over ``ledger`` in the file."""
    toml('ledger = "sqlite:///file.db"')
    monkeypatch.setenv("KEYBRAKE_LEDGER", "sqlite:///environment.db")

    assert settings.current().ledger == "sqlite:///environment.db"


@pytest.mark.parametrize(
    "url", ["postgres://x", "ledger.db", "sqlite:///", "sqlite://x", "sqlite:///:memory:", "x\0y", "sqlite:///a\0b"]
)  # fmt: skip
def test_an_invalid_ledger_url_is_refused(monkeypatch, url):
    """A URL of an unknown kind, without a file, or in memory is a PolicyError with the remedy."""
    with pytest.raises(PolicyError, match="ledger="), keybrake.run("a", cap=1, ledger=url):
        pass


@pytest.mark.parametrize("ledger", [5, True, ["sqlite:///x.db"], b"sqlite:///x.db"])
def test_an_invalid_ledger_argument_is_refused(ledger):
    """An argument that is neither a URL, a path nor a ledger is a PolicyError."""
    with pytest.raises(PolicyError, match="ledger="), keybrake.run("a", cap=1, ledger=ledger):
        pass


def test_the_default_ledger_is_made_with_its_folder(monkeypatch, tmp_path):
    """Without settings the ledger is in the platform's state folder, which only the owner can open."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with keybrake.run("a", cap=1) as run:
        pass
    made = Path(keybrake.open_ledger().url.removeprefix("sqlite:///"))

    assert run.state == "closed"
    assert made.is_relative_to(home)
    assert (made.stat().st_mode & 0o777, made.parent.stat().st_mode & 0o777) == (0o600, 0o700)


# Policies


POLICIES = """
[policies.refund-agent]
cap = 200
daily_usd_cap = 500.25
max_calls = 9
max_amount = "20.50"
allow = ["stripe.refunds.create", "stripe.charges.retrieve"]
expires_in = "2h"
limits = { "stripe.refunds.create" = { cap = 50, max_calls = 5, per = "1h" } }
[policies.free]
cap = "none"
"""


def test_a_named_policy_binds_a_run(toml, ledger_url, fake):
    """A run under a named policy is bound by all fields of the policy."""
    toml(POLICIES)
    with keybrake.run("a", policy="refund-agent") as run:
        with pytest.raises(keybrake.EndpointNotAllowed):
            stripe.PaymentIntent.create(amount=1, currency="usd")
        assert run.remaining == 200
    with keybrake.run("a", policy="free") as run:
        assert run.remaining is None
    with keybrake.run("a", policy="refund-agent", cap=3) as run:
        assert run.remaining == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "policy='p' is unknown: "),
        ("[policies.p]\nmax_calls = 1", 'cap is missing; write an amount in USD, or cap = "none"'),
        ("[policies.p]\ncapp = 1", "unknown key 'capp'"),
        ("[policies.p]\ncap = true", "cap=True is not an amount"),
        ("[policies.p]\ncap = inf", "cap=Decimal('Infinity') is not an amount"),
        ("[policies.p]\ncap = -0.0", "is negative"),
        ("[policies.p]\ncap = '1_000'", "cap='1_000' is not an amount"),
        ("[policies.p]\ncap = 1\nexpires_in = 5", "expires_in=5 is not a duration"),
        ("[policies.p]\ncap = 1\nallow = 'x'", "is not a list of patterns"),
        ("[policies.p]\ncap = 1\nallow = ['stripe.refund.create']", "is no endpoint of stripe"),
        ("[policies.p]\ncap = 1\nallow = ['POST stripe:/v1/refund']", "is no endpoint of stripe"),
        ("[policies.p]\ncap = 1\nallow = ['POST stripe:/v1/charge/*/capture']", "is no endpoint"),
        ("[policies.p]\ncap = 1\n[policies.p.limits]\n'*' = 5", "is not an endpoint pattern"),
        ("[policies.p]\ncap = 1\n[policies.p.limits.'stripe.refunds.create']\nkap = 5", "'kap'"),
        ("[policies.p]\ncap = 1\n[policies.p.limits.'stripe.refunds.create']\nper = 'day'", "nothing"),
        ("[policies.p]\ncap = 1\n[policies.p.limits.'stripe.refunds.create']\ncap = '٣'", "cap='٣'"),
    ],
)  # fmt: skip
def test_a_bad_policy_names_the_file(toml, text, told):
    """An invalid policy is refused with the file, the policy and the key."""
    file = toml(text)
    with pytest.raises(PolicyError) as refused:
        keybrake.run("a", policy="p")

    assert str(file) in str(refused.value)
    assert told in str(refused.value)


# Options set in code


@pytest.mark.parametrize(
    "bad",
    [
        {"ledger": 5},
        {"ledger": ""},
        {"lock_timeout": True},
        {"lock_timeout": float("nan")},
        {"lock_timeout": 0},
        {"lock_timeout": "5"},
        {"durability": "never"},
        {"durability": ["power"]},
        {"usd_per": {"EUR": 1.1}},
        {"usd_per": 5},
        {"usd_per": {5: "1"}},
        {"margin_bps": 1.0},
        {"margin_bps": True},
        {"climate_fee_margin_bps": -1},
        {"ecb": "yes"},
        {"ecb_max_age_days": 0},
        {"refunds": "nett"},
        {"prices": {"twilio": {"sms_segment": {"44": "1"}}}},
        {"prices": 5},
        {"extra_hosts": {"stripe": ["http://example.com"]}},
        {"extra_hosts": {"stripe": "https://example.com"}},
        {"extra_hosts": {"paypal": []}},
        {"extra_hosts": 5},
        {"extra_hosts": ["https://example.com"]},
    ],
    ids=str,
)
def test_configure_changes_nothing_if_anything_is_wrong(bad):
    """One bad value leaves the whole configuration as it was, and names the argument."""
    before = settings.current()
    with pytest.raises(PolicyError, match=next(iter(bad))):
        keybrake.configure(**{"margin_bps": 77, **bad})

    assert settings.current() is before


@pytest.mark.parametrize("name", ["ledger", "lock_timeout", "margin_bps", "durability", "usd_per"])
def test_configure_refuses_a_number_too_long_to_print(name):
    """A number of 5,000 digits is a PolicyError like any other."""
    with pytest.raises(PolicyError, match=name):
        keybrake.configure(**{name: 10**5000})


def test_configure_keeps_the_other_settings(toml):
    """Options set in code override the file, and the other settings stay."""
    toml('lock_timeout = 3\n[money]\nusd_per = { EUR = "1.1" }')
    keybrake.configure(margin_bps=0, durability="process")
    config = settings.current()

    assert (config.lock_timeout, config.durability, config.money.margin_bps) == (3, "process", 0)
    assert config.money.rate("eur") == Fraction("1.1")


def test_a_bad_config_stops_a_program_at_its_first_run(tmp_path):
    """A real process with a bad file fails before it sends or writes anything."""
    (tmp_path / "keybrake.toml").write_text("[money]\nusd_per = { EUR = 0 }")
    code = "import keybrake\nwith keybrake.run('a', cap=1): print('inside')"
    env = {k: v for k, v in os.environ.items() if not k.startswith("KEYBRAKE_")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "inside" not in ran.stdout
    assert "keybrake.toml: money.usd_per.EUR=0 is not a rate" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["keybrake.toml"]


def test_a_file_that_is_too_large_is_refused(tmp_path):
    """The size of the file has a limit, because keybrake exec sends it to child processes."""
    file = tmp_path / "keybrake.toml"
    file.write_text("# x\n" * 250_001)
    with pytest.raises(PolicyError, match=r"has 1,000,004 characters; 1,000,000 are the most"):
        settings.load({"KEYBRAKE_CONFIG": str(file)})


def test_a_lone_carriage_return_is_no_line_end(tmp_path):
    """In TOML a lone carriage return does not end a comment."""
    file = tmp_path / "keybrake.toml"
    file.write_bytes(b'# a\rledger = "sqlite:////other.db"\r\n')
    with pytest.raises(PolicyError, match="cannot be read"):
        settings.load({"KEYBRAKE_CONFIG": str(file)})
