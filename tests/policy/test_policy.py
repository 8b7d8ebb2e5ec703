"""What may a policy say: every field checked, every pattern strict, every window in UTC."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake import Limit, Policy, PolicyError
from keybrake.model import clock
from keybrake.policy import policy as policies
from keybrake.policy.policy import Rule, load_terms, matches, terms_of
from tests._each import each


def at(text: str) -> int:
    """Return a moment in microseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * clock.SECOND)


# Patterns


@each(
    ("pattern", "endpoint", "method", "path", "meant"),
    [
        ("stripe.refunds.create", "stripe.refunds.create", "POST", "/v1/refunds", True),
        ("stripe.refunds.create", "stripe.refunds.list", "GET", "/v1/refunds", False),
        ("stripe.refunds.*", "stripe.refunds.list", "GET", "/v1/refunds", True),
        ("stripe.*.list", "stripe.refunds.list", "GET", "/v1/refunds", True),
        ("stripe.*.list", "twilio.messages.list", "GET", "/x", False),
        ("stripe.*.*", "stripe.issuing.cards.create", "POST", "/v1/issuing/cards", False),
        ("stripe.*.*.*", "stripe.issuing.cards.create", "POST", "/v1/issuing/cards", True),
        ("GET stripe:/v1/charges/*", "stripe.charges.retrieve", "GET", "/v1/charges/ch_1", True),
        ("GET stripe:/v1/charges/*", "stripe.charges.list", "GET", "/v1/charges", False),
        ("GET stripe:/v1/charges/*", "stripe.charges.x", "GET", "/v1/charges/ch_1/refunds", False),
        ("GET stripe:/v1/charges/*", "stripe.charges.update", "POST", "/v1/charges/ch_1", False),
        ("GET stripe:/v1/charges/*", "twilio.charges.retrieve", "GET", "/v1/charges/ch_1", False),
        ("GET stripe:/v1/charges/*", "stripe.charges.retrieve", "GET", "/V1/charges/ch_1", False),
        ("*", "anything.at.all", "POST", "/", True),
    ],
)
def test_a_star_is_one_segment(pattern, endpoint, method, path, meant):
    """A pattern means calls with as many segments as it has, and case counts."""
    assert matches(pattern, endpoint, method, path) is meant


@each(
    "pattern",
    [
        "*", "stripe", "stripe.*", "stripe.**", "stripe.refunds.**", "stripe..create", ".refunds.create",
        "stripe.refunds.create.", "Stripe.Refunds.create", "stripe.refunds.create\n", "stripe refunds create",
        "(a+)+$", "stripe.(a+)+$.create", "stripe.ref*.create", "/v1/*", "GET /v1/charges", "GET stripe:/v1/*/",
        "GET stripe:/v1//x", "GET stripe:v1/charges", "get stripe:/v1/charges", "GET stripe:/v1/ch*", "GET stripe:/",
        "TRACE stripe:/v1/charges", "GET stripe:/v1/../charges\n", "", "\0", "\ud800", "\uff53tripe.refunds.create",
        "a" * 10_000, "stripe." + "a" * 61 + ".create", None, 5, True, b"stripe.refunds.create", ("stripe",), 10**30,
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern):
    """Patterns across segments, regular expressions, paths without vendor and non-texts are told."""
    with pytest.raises(PolicyError, match=r"^allow: .* is not an endpoint pattern; write"):
        Policy(cap=1, allow=[pattern])
    with pytest.raises(PolicyError, match=r"^limits: .* is not an endpoint pattern; write"):
        Policy(cap=1, limits={pattern: Limit(cap=1)})


def test_a_lone_star_says_what_to_do_instead():
    """Who writes allow=["*"] is told to leave it out."""
    with pytest.raises(PolicyError, match="leave allow out"):
        Policy(cap=1, allow=["*"])


# Fields


@each("field", ["cap", "daily_usd_cap", "max_amount"])
@each(
    "value",
    [True, -1, "1_000", float("nan"), pytest.param(10**5000, id="very long"), "٣", [1]],
)
def test_a_bad_amount_is_refused_in_every_field(field, value):
    """Each field that takes money refuses what is no amount, and says which field it was."""
    with pytest.raises(PolicyError, match=rf"^{field}="):
        Policy(**{"cap": 1, field: value})


@each("value", [True, -1, 1.0, "5", 10**13, float("inf"), [1], 2**63])
def test_a_bad_number_of_calls_is_refused(value):
    """``max_calls`` is a whole number from 0 up."""
    with pytest.raises(PolicyError, match=r"^max_calls=.*write a whole number from 0 up"):
        Policy(cap=1, max_calls=value)
    with pytest.raises(PolicyError, match=r"^max_calls="):
        Limit(max_calls=value)


@each("field", ["max_calls", "allow", "limits", "expires_in", "cap", "daily_usd_cap"])
@each(
    "value",
    [10**5000, [10**5000], {"stripe.refunds.create": 10**5000}],
    ids=["int", "list", "table"],
)
def test_a_number_too_long_to_print_is_refused_in_every_field(field, value):
    """Python does not print a number of 5,000 digits; the error does not try."""
    with pytest.raises(PolicyError, match=field):
        Policy(**{"cap": 1, field: value})


@pytest.mark.parametrize(
    "allow", ["stripe.refunds.create", 5, {"stripe.refunds.create"}, {"stripe.refunds.create": 1}, iter([])]
)  # fmt: skip
def test_allow_is_a_list(allow):
    """One text is no list of patterns, and neither is anything without an order."""
    with pytest.raises(PolicyError, match=r"^allow=.* is not a list of patterns; write allow="):
        Policy(cap=1, allow=allow)


@pytest.mark.parametrize("limits", [5, ["stripe.refunds.create"], "stripe.refunds.create"])
def test_limits_are_a_table(limits):
    """``limits`` maps patterns to limits."""
    with pytest.raises(PolicyError, match=r"^limits=.* is not a table; write limits="):
        Policy(cap=1, limits=limits)


@pytest.mark.parametrize("limit", [5, "50", None, [50]])
def test_a_limit_is_a_limit(limit):
    """A bare number does not say whether it is money or calls."""
    with pytest.raises(PolicyError, match=r"^limits\[stripe.refunds.create\]=.* is not a Limit"):
        Policy(cap=1, limits={"stripe.refunds.create": limit})


def test_an_unknown_key_of_a_limit_is_named():
    """A misspelt key would never bind, so it is refused."""
    with pytest.raises(PolicyError, match=r"limits\[stripe.refunds.create\]: unknown key 'capp'"):
        Policy(cap=1, limits={"stripe.refunds.create": {"capp": 5}})


def test_a_limit_limits_something():
    """A limit without cap and max_calls is a mistake."""
    with pytest.raises(PolicyError, match="limits nothing"):
        Limit(per="day")


@each("per", ["week", "0m", "59s", "32d", "2 h", "", "Day", 5, None, True, "٣h", "1mo", b"day"])
def test_a_bad_window_is_refused(per):
    """A window is the run, a calendar unit, or one minute to 31 days."""
    with pytest.raises(PolicyError, match=r"^per="):
        Limit(cap=1, per=per)


@pytest.mark.parametrize("per", [timedelta(minutes=90), timedelta(days=1)])
def test_a_window_given_as_a_timedelta_is_kept_or_refused_at_once(per):
    """What a limit takes it can write down; nothing fails later, in the middle of a run."""
    try:
        limit = Limit(cap=1, per=per)
    except PolicyError:
        return
    dumped = terms_of(Policy(cap=1, limits={"stripe.refunds.create": limit})).dump()
    assert load_terms(dumped).rules[0].since(at("2026-11-23T12:00")) < at("2026-11-23T12:00")


def test_an_unknown_key_of_a_policy_is_a_type_error():
    """Python itself refuses a misspelt field."""
    with pytest.raises(TypeError, match="daily_usd_capp"):
        Policy(cap=1, daily_usd_capp=5)


def test_a_table_with_an_unknown_key_names_the_place():
    """A misspelt key of a config file is refused with the place and what is known."""
    with pytest.raises(
        PolicyError, match=r"^here: unknown key 'daily_usd_capp'; known are allow, cap"
    ):
        Policy.from_mapping({"cap": 1, "daily_usd_capp": 5}, where="here")


def test_a_table_without_cap_says_how_to_write_none():
    """A config file has no null, so the text names the word for it."""
    with pytest.raises(PolicyError, match=r'^here: cap is missing.*"none"'):
        Policy.from_mapping({"max_calls": 1}, where="here")


def test_a_table_with_a_bad_value_names_the_place():
    """The error of a field carries the place of the table."""
    with pytest.raises(PolicyError, match=r"^here: cap=True"):
        Policy.from_mapping({"cap": True}, where="here")


def test_none_in_writing_is_no_cap():
    """``cap = "none"`` is no cap and ``expires_in = "none"`` is never."""
    policy = Policy.from_mapping({"cap": "none", "expires_in": "none"}, where="here")

    assert terms_of(policy).cap is None
    assert policies.expiry_of(policy) is None


def test_zero_is_a_cap():
    """A cap of 0 means no paid calls, not no cap; an empty allowlist means none, not all."""
    terms = terms_of(Policy(cap=0, max_calls=0, allow=[], limits={}))

    assert (terms.cap, terms.max_calls, terms.allow, terms.rules) == (0, 0, (), ())


def test_a_policy_pickles():
    """A policy travels to another process."""
    policy = Policy(cap="1.50", limits={"stripe.refunds.create": Limit(cap=1, per="day")})

    assert pickle.loads(pickle.dumps(policy)) == policy


# Terms


amounts = st.none() | st.integers(0, 10**9)
counts = st.none() | st.integers(0, 10**12)
patterns = st.sampled_from(
    ["stripe.refunds.create", "stripe.*.list", "GET stripe:/v1/charges/*", "stripe.refunds.*"]
)
limits = st.builds(
    Limit,
    cap=st.integers(0, 10**9),
    max_calls=counts,
    per=st.sampled_from(["run", "hour", "day", "month", "90m", "31d", "60s"]),
)
any_policies = st.builds(
    Policy,
    cap=amounts,
    daily_usd_cap=amounts,
    max_calls=counts,
    max_amount=amounts,
    allow=st.none() | st.lists(patterns),
    limits=st.none() | st.dictionaries(patterns, limits),
)


@given(any_policies)
def test_terms_come_back_from_the_ledger_as_they_were(policy):
    """What is decided by is what was written down."""
    terms = terms_of(policy)

    assert load_terms(terms.dump()) == terms


@given(any_policies)
def test_money_in_terms_is_in_whole_micros(policy):
    """A decision never meets a fraction."""
    terms = terms_of(policy)
    money = [terms.cap, terms.max_amount, *(rule.cap for rule in terms.rules)]

    assert all(amount is None or type(amount) is int for amount in money)


# Windows


@pytest.mark.parametrize(
    ("per", "first", "last", "after"),
    [
        ("hour", "2026-11-23T13:00:00", "2026-11-23T13:59:59.999999", "2026-11-23T14:00:00"),
        ("day", "2026-11-23T00:00:00", "2026-11-23T23:59:59.999999", "2026-11-24T00:00:00"),
        ("day", "2028-02-29T00:00:00", "2028-02-29T23:59:59.999999", "2028-03-01T00:00:00"),
        ("month", "2026-02-01T00:00:00", "2026-02-28T23:59:59.999999", "2026-03-01T00:00:00"),
        ("month", "2026-12-01T00:00:00", "2026-12-31T23:59:59.999999", "2027-01-01T00:00:00"),
    ],
)
def test_a_calendar_window_has_its_edges_in_utc(per, first, last, after):
    """The first and last microsecond of a window share it; the next one does not."""
    rule = Rule("*", per, 1, None)

    assert rule.bucket(at(first)) == rule.bucket(at(last)) == at(first)
    assert rule.since(at(last)) == at(first)
    assert rule.bucket(at(after)) == rule.since(at(after)) == at(after)


@given(st.integers(0, 4 * 10**15), st.integers(1, 44_640))
def test_a_rolling_window_counts_too_long_rather_than_too_short(now, minutes):
    """All that was admitted within the duration counts, and at most a minute more."""
    rule = Rule("*", f"{minutes}m", 1, None)
    oldest_that_counts = now - minutes * clock.MINUTE

    assert rule.bucket(oldest_that_counts) >= rule.since(now)
    assert rule.since(now) > oldest_that_counts - clock.MINUTE


@given(st.integers(0, 4 * 10**15), st.integers(0, 4 * 10**15))
@pytest.mark.parametrize("per", ["run", "hour", "day", "month", "90m", "60s"])
def test_time_never_takes_a_window_back(per, one, other):
    """Later calls count in the same window or a later one."""
    rule = Rule("*", per, 1, None)
    early, late = sorted((one, other))

    assert rule.bucket(early) <= rule.bucket(late)
    assert rule.since(early) <= rule.since(late)
    assert rule.since(late) <= rule.bucket(late)
