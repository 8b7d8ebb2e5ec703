"""Is every price taken exactly as written, found for what it is for, and for nothing else?"""

import tomllib
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keybrake
from keybrake import PolicyError
from keybrake.config import prices as price_list
from keybrake.config import settings
from tests._each import each

PROFILE = """
[money]
margin_bps = 0
climate_fee_margin_bps = 300
refunds = "gross"
usd_per = { EUR = "1.1172", KWD = "3.2500", VND = "0.000038", UGX = "0.00027" }
[prices.twilio]
sms_segment = { "+1" = "0.0145", "+44" = "0.0524", "+81" = "0.0745" }
mms_message = { "+1" = "0.03" }
whatsapp_session = "0.005"
whatsapp_template_max = "0.155"
voice_minute = { "+1" = "0.014", "+44" = "0.0158" }
default_time_limit_s = 14400
number_month = { "US:local" = "1.15", "US:tollfree" = "2.15" }
lookup_field = { line_type_intelligence = "0.008", caller_name = "0.01", validation = "0" }
verify_success = "0.05"
failed_message_fee = "0.001"
worst_segments_unknown_body = 25
[prices.twilio.verify_channel]
sms = { "+1" = "0.0083" }
whatsapp = { "+1" = "0.015" }
call = { "+1" = "0.014" }
[prices.resend]
per_recipient = "0.0009"
broadcast_per_recipient = "0"
batch_max = 100
"""
# The profile of the money vectors: what its names have to be in micro-USD.
MICROS = {
    "sms_segment": {"+1": 14500, "+44": 52400, "+81": 74500},
    "mms_message": {"+1": 30000},
    "whatsapp_session": {"": 5000},
    "whatsapp_template_max": {"": 155000},
    "voice_minute": {"+1": 14000, "+44": 15800},
    "default_time_limit_s": {"": 14400},
    "number_month": {"US:local": 1150000, "US:tollfree": 2150000},
    "lookup_field": {"line_type_intelligence": 8000, "caller_name": 10000, "validation": 0},
    "verify_success": {"": 50000},
    "verify_channel": {"sms:+1": 8300, "whatsapp:+1": 15000, "call:+1": 14000},
    "failed_message_fee": {"": 1000},
    "worst_segments_unknown_body": {"": 25},
    "per_recipient": {"": 900},
    "broadcast_per_recipient": {"": 0},
    "batch_max": {"": 100},
}


def load(text: str) -> settings.Money:
    """Return the money part of a ``keybrake.toml``."""
    given = tomllib.loads(text)
    return settings.parse(given, source="f.toml", default=settings.Config("")).money


def prices(**tables) -> price_list.Prices:
    """Return shipped prices with Twilio's tables in their place."""
    return price_list.shipped().with_tables({"twilio": tables}, "prices")


def test_the_whole_profile_of_the_vectors_loads_exactly(tmp_path, monkeypatch):
    """Every name of the vectors' profile is read from a file, each figure to the micro."""
    file = tmp_path / "keybrake.toml"
    file.write_text(PROFILE)
    monkeypatch.setenv("KEYBRAKE_CONFIG", str(file))
    money = settings.load().money

    found: dict = {}
    for price in money.prices:
        if "f.toml" in price.source or str(file) in price.source:
            found.setdefault(price.name, {})[price.key] = price.value
    assert found == MICROS
    assert (money.refunds, money.climate_fee_margin_bps, money.margin_bps) == ("gross", 300, 0)


def test_code_sets_the_same_profile():
    """``configure`` takes the same tables, and leaves prices it does not name."""
    given = tomllib.loads(PROFILE)
    keybrake.configure(prices=given["prices"], climate_fee_margin_bps=300)
    keybrake.configure(prices={"resend": {"per_recipient": "0.002"}})
    money = settings.current().money

    assert money.prices.one("resend", "per_recipient") == 2000
    assert money.prices.exact("twilio", "lookup_field", "validation") == 0
    assert money.prices.longest("twilio", "verify_channel", "+14155550100", within="sms:") == 8300
    assert money.climate_fee_margin_bps == 300


def test_every_shipped_figure_names_source_and_day():
    """What ships says where it comes from and when it was noted."""
    for price in price_list.shipped():
        assert price.source
        assert date.fromisoformat(str(price.as_of)) <= date(2099, 1, 1)
        assert price.value is not None


def test_every_name_has_a_unit():
    """No figure is shown without what it is for."""
    assert {name for names in price_list.NAMES.values() for name in names} == set(price_list.UNITS)


def test_the_longest_prefix_wins():
    """Overlapping prefixes are meant: the longest that fits, whatever the order, else ``*``."""
    table = {"+1": "0.01", "+1876": "0.2", "*": "0.75", "+187": "0.1"}
    found = prices(sms_segment=table)

    def at(number):
        return found.longest("twilio", "sms_segment", number)

    assert [at(n) for n in ("+14155550100", "+18765550100", "+18705550100", "+4420")] == [
        10_000, 200_000, 100_000, 750_000,
    ]  # fmt: skip
    assert prices(sms_segment={"+1": "0.01"}).longest("twilio", "sms_segment", "+44") is None
    assert at("") == 750_000


def test_a_prefix_shorter_than_the_countrys_code_does_not_fit():
    """What is shorter than the code of a number is another country's price; ``*`` is everyone's."""
    table = {"+1": "0.01", "+18765": "0.2"}

    def at(number, **more):
        found = prices(sms_segment={**table, **more})
        return found.longest("twilio", "sms_segment", number, code="+1876")

    assert [at("+18765550100"), at("+18766550100")] == [200_000, None]
    assert at("+18766550100", **{"+1876": "0.3"}) == 300_000
    assert at("+18766550100", **{"*": "0.75"}) == 750_000


@given(
    table=st.dictionaries(
        st.from_regex(r"\+[1-9][0-9]{0,4}", fullmatch=True) | st.just("*"),
        st.integers(0, 10**9),
        max_size=6,
    ),
    number=st.from_regex(r"\+[1-9][0-9]{0,8}", fullmatch=True),
)
def test_longest_is_what_a_search_over_all_keys_finds(table, number):
    """Against the plain definition: of all prefixes that begin the number, the longest."""
    found = prices(sms_segment={key: f"{micros / 10**6:.6f}" for key, micros in table.items()})
    fitting = [key for key in table if key != "*" and number.startswith(key)]
    want = table[max(fitting, key=len)] if fitting else table.get("*")

    assert found.longest("twilio", "sms_segment", number) == want


def test_no_price_in_writing_refuses_what_a_shorter_prefix_would_cover():
    """``"none"`` under a prefix is no price, though a shorter prefix has one."""
    found = prices(
        sms_segment={"+1": "0.01", "+1900": "none"}, lookup_field={"x": "none", "*": "1"}
    )

    assert found.longest("twilio", "sms_segment", "+19005550100") is None
    assert found.exact("twilio", "lookup_field", "x") is None
    assert found.exact("twilio", "lookup_field", "y") == 1_000_000


@each(
    ("usd", "micros"),
    [
        ("0.0083", 8300), ("0.0000001", 1), ("0.0000010000000001", 2), ("0", 0), ("0.000", 0),
        ("999999999", 999_999_999_000_000), ("1.10", 1_100_000), ("0.0145999", 14_600),
    ],
)  # fmt: skip
def test_a_fraction_of_a_micro_rounds_up(usd, micros):
    """A price is exact, and rounded up where it is finer than a micro-dollar."""
    assert prices(verify_success=usd).one("twilio", "verify_success") == micros


def test_a_table_replaces_the_shipped_one_of_its_name():
    """One name that is given replaces that name alone."""
    found = prices(failed_message_fee="0.5")

    assert found.one("twilio", "failed_message_fee") == 500_000
    assert found.one("twilio", "whatsapp_session") == 5000
    assert prices(sms_segment={}).longest("twilio", "sms_segment", "+1") is None


@each(
    ("key", "told"),
    [
        ("44", 'write "+44"'),
        ("0044", 'write "+44"'),
        ("+44 20", 'write "+4420"'),
        ("1 (876)", 'write "+1876"'),
        ("+1-876", 'write "+1876"'),
        ("044", 'write "+" and the country code'),
        ("+0", 'write "+" and the country code'),
        ("GB", 'write "+" and the country code'),
        ("", 'write "+" and the country code'),
        ("+", 'write "+" and the country code'),
        ("++44", 'write "+" and the country code'),
        ("+\u0664\u0664", 'write "+" and the country code'),
        ("+4\n4", 'write "+" and the country code'),
        ("+1234567890123456", 'write "+" and the country code'),
        (44, 'write "+44"'),
        (None, 'write "+" and the country code'),
    ],
)
@each("name", ["sms_segment", "mms_message", "voice_minute", "verify_channel"])
def test_a_destination_that_would_never_match_is_told(name, key, told):
    """A key that no number can begin with is an error that says what to write."""
    table = {key: "0.01"}
    with pytest.raises(PolicyError) as refused:
        prices(**{name: {"sms": table} if name == "verify_channel" else table})

    assert f"prices.twilio.{name}" in str(refused.value)
    assert told in str(refused.value)


@each(
    ("text", "told"),
    [
        ("[prices.twillio]", "prices: unknown key 'twillio'"),
        ("[prices.twilio]\nsms_segmnt = {}", "prices.twilio: unknown key 'sms_segmnt'"),
        ("prices = 5", "prices=5 is not a table"),
        ("[prices]\ntwilio = 5", "prices.twilio=5 is not a table"),
        ("[prices.twilio]\nsms_segment = '0.01'", 'is not a table; write { "+1"'),
        ("[prices.twilio]\nverify_channel = { sms = '0.01' }", "verify_channel.sms='0.01' is not a table"),
        ("[prices.twilio]\nverify_channel = { 'sms:+1' = {} }", "is not a channel"),
        ("[prices.twilio]\nnumber_month = { 'us:local' = '1' }", 'write { "US:local"'),
        ("[prices.twilio]\nnumber_month = { 'US' = '1' }", 'write { "US:local"'),
        ("[prices.twilio]\nlookup_field = { 'caller name' = '1' }", "is not a name of a price"),
        ("[prices.twilio]\nverify_success = 0.05", "is not a price; write USD as text"),
        ("[prices.twilio]\nverify_success = 1", "verify_success=1 is not a price"),
        ("[prices.twilio]\nverify_success = true", "verify_success=True is not a price"),
        ("[prices.twilio]\nverify_success = '-0.05'", "'-0.05' is not a price"),
        ("[prices.twilio]\nverify_success = '+0.05'", "is not a price"),
        ("[prices.twilio]\nverify_success = '$0.05'", "is not a price"),
        ("[prices.twilio]\nverify_success = '1e-3'", "is not a price"),
        ("[prices.twilio]\nverify_success = 'nan'", "is not a price"),
        ("[prices.twilio]\nverify_success = ''", "is not a price"),
        ("[prices.twilio]\nverify_success = {}", "is not a price"),
        ("[prices.twilio]\nsms_segment = { '+1' = 0.0145 }", "sms_segment.+1="),
        ("[prices.twilio]\ndefault_time_limit_s = '14400'", "is not a whole number from 1 up"),
        ("[prices.twilio]\ndefault_time_limit_s = 0", "default_time_limit_s=0 is not a whole"),
        ("[prices.twilio]\nworst_segments_unknown_body = -1", "is not a whole number"),
        ("[prices.resend]\nbatch_max = true", "batch_max=True is not a whole number"),
        ("[prices.resend]\nbatch_max = 1.0", "is not a whole number"),
        ("[prices.resend]\nbatch_max = 'none'", "is not a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(text, told):
    """A price that is no text, negative, or under an unknown name is an error with its place."""
    with pytest.raises(PolicyError) as refused:
        load(text)

    assert str(refused.value).startswith("f.toml: prices")
    assert told in str(refused.value)


def test_the_same_prefix_twice_is_no_file():
    """TOML itself refuses a key that is written twice, so no price hides another."""
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads('[prices.twilio]\nsms_segment = { "+1" = "1", "+1" = "2" }')


def test_prices_are_the_same_whatever_money_says():
    """``[money]`` and ``[prices]`` stand beside each other in any order."""
    first = load('[prices.resend]\nper_recipient = "0.1"\n[money]\nmargin_bps = 7')

    assert (first.margin_bps, first.prices.one("resend", "per_recipient")) == (7, 100_000)
    assert replace(first, prices=price_list.shipped()).prices.one("resend", "per_recipient") == 900
