"""The section [credentials] is read, and errors name the mistake and how to fix it."""

import textwrap

import pytest

import keybrake
from keybrake.config import settings
from keybrake.config.references import Reference
from keybrake.errors import PolicyError


def read(tmp_path, text):
    """Return the configuration in a file with this text."""
    file = tmp_path / "keybrake.toml"
    file.write_text(textwrap.dedent(text))
    return settings.load({"KEYBRAKE_CONFIG": str(file)})


def test_each_vendor_has_its_own_shape(tmp_path):
    """A vendor has one reference or a table of parts, and a user name may be written as it is."""
    config = read(
        tmp_path,
        """
        [credentials]
        stripe = "env://STRIPE"
        twilio = { account_sid = "AC12", auth_token = "file:///run/twilio#/token" }
        resend = { api_key = "ref+exec://get?args=resend" }
        ttl = 60
        """,
    )
    assert config.credentials == {
        "stripe": {"secret": Reference("env", "STRIPE")},
        "twilio": {"user": "AC12", "secret": Reference("file", "/run/twilio", (), ("token",))},
        "resend": {"secret": Reference("exec", "get", (("args", "resend"),))},
    }
    assert config.credentials_ttl == 60.0


def test_a_twilio_key_and_its_secret_can_be_references(tmp_path):
    """Both parts of a Twilio API key may be references."""
    config = read(
        tmp_path,
        """
        [credentials]
        twilio = { api_key = "env://SID", api_secret = "env://SECRET" }
        """,
    )
    assert config.credentials["twilio"] == {
        "user": Reference("env", "SID"),
        "secret": Reference("env", "SECRET"),
    }
    assert config.credentials_ttl == 300.0


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('stripe = "sk_live_hunter2"', "credentials.stripe is no reference to a secret"),
        ('stripe = "pony://x"', "no source reads"),
        ("stripe = 5", "credentials.stripe is no reference"),
        ('stripe = { key = "env://A" }', "credentials.stripe has 'key'; write api_key"),
        ("stripe = {}", "credentials.stripe has nothing; write api_key"),
        ('twilio = "env://A"', 'credentials.twilio is not a table; write { account_sid = "…", auth_token = "…" }'),
        ('twilio = { account_sid = "AC1" }', "write account_sid and auth_token, or api_key and api_secret"),
        ('twilio = { account_sid = "AC1", auth_token = "hunter2" }', "credentials.twilio.auth_token is no reference"),
        ('twilio = { account_sid = "A:C", auth_token = "env://A" }', "credentials.twilio.account_sid is neither"),
        ('paypal = "env://A"', "unknown key 'paypal'; known are stripe, twilio, resend, ttl"),
        ("ttl = 0", "credentials.ttl is not a number of seconds from 1 to 86400"),
        ("ttl = true", "credentials.ttl is not"),
        ('ttl = "hunter2"', "credentials.ttl is not"),
    ],
)  # fmt: skip
def test_an_error_names_the_key_and_repeats_no_secret(tmp_path, written, words):
    """The error has file, key and remedy, but never a value that should have been a reference."""
    with pytest.raises(PolicyError) as refused:
        read(tmp_path, f"[credentials]\n{written}\n")
    assert words in str(refused.value)
    assert "keybrake.toml: credentials" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_list_is_refused(tmp_path):
    """The section [credentials] must be a table."""
    with pytest.raises(PolicyError, match="credentials is not a table"):
        read(tmp_path, 'credentials = ["env://A"]')


def test_configure_sets_credentials():
    """Vendors that configure() does not name keep theirs, and an error changes nothing."""
    keybrake.configure(credentials={"stripe": "env://A", "ttl": 10})
    keybrake.configure(credentials={"resend": "env://B"})
    with pytest.raises(PolicyError):
        keybrake.configure(credentials={"stripe": "sk_live_x", "resend": "env://C"})
    config = settings.current()
    assert set(config.credentials) == {"stripe", "resend"}
    assert config.credentials["resend"] == {"secret": Reference("env", "B")}
    assert config.credentials_ttl == 10.0
