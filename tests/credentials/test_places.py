"""Is [credentials] read as it is meant, and is a mistake named with its remedy?"""

import textwrap

import pytest

import keybrake
from keybrake.config import settings
from keybrake.config.references import Reference
from keybrake.errors import PolicyError


def read(tmp_path, text):
    """Return the configuration that a file with this text describes."""
    file = tmp_path / "keybrake.toml"
    file.write_text(textwrap.dedent(text))
    return settings.load({"KEYBRAKE_CONFIG": str(file)})


def test_each_vendor_has_its_own_shape(tmp_path):
    """One reference, or a table of the parts; a user's name is no secret and may stand there itself."""
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


def test_a_twilio_key_may_be_fetched_with_its_secret(tmp_path):
    """Both halves by reference."""
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
def test_a_mistake_is_named_and_no_secret_repeated(tmp_path, written, words):
    """File, key and remedy; never the value of something that should have been a reference."""
    with pytest.raises(PolicyError) as refused:
        read(tmp_path, f"[credentials]\n{written}\n")
    assert words in str(refused.value)
    assert "keybrake.toml: credentials" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_it_is_no_list(tmp_path):
    """It is a table."""
    with pytest.raises(PolicyError, match="credentials is not a table"):
        read(tmp_path, 'credentials = ["env://A"]')


def test_code_may_say_it_too():
    """What is not named there stays; a mistake changes nothing."""
    keybrake.configure(credentials={"stripe": "env://A", "ttl": 10})
    keybrake.configure(credentials={"resend": "env://B"})
    with pytest.raises(PolicyError):
        keybrake.configure(credentials={"stripe": "sk_live_x", "resend": "env://C"})
    config = settings.current()
    assert set(config.credentials) == {"stripe", "resend"}
    assert config.credentials["resend"] == {"secret": Reference("env", "B")}
    assert config.credentials_ttl == 10.0
