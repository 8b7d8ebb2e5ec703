"""decide() agrees with a ten-line model, over chains of scopes in every state."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keybrake import errors
from keybrake.model.call import Call, Effect
from keybrake.policy import decision as policy_decision
from keybrake.policy.decision import Standing, Used
from keybrake.policy.policy import Rule, Terms
from tests._each import each

NOW = 1_000
MONEY = Call("stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY)
READ = Call("stripe", "stripe.charges.retrieve", "GET", "/v1/charges/ch_1", Effect.READ)
ODD = Call("stripe", "stripe.unlisted.post", "POST", "/v1/odd", Effect.UNCLASSIFIED)
NEVER_SENT = ("host_not_allowed", "header_override", "credential_unavailable")

rules = st.builds(
    Rule,
    st.sampled_from(["*", "stripe.refunds.create"]),
    st.sampled_from(["run", "day", "90m"]),
    st.none() | st.integers(0, 12),
    st.none() | st.integers(0, 3),
)
terms = st.builds(
    Terms,
    cap=st.none() | st.integers(0, 12),
    max_calls=st.none() | st.integers(0, 3),
    max_amount=st.none() | st.integers(0, 12),
    allow=st.none()
    | st.none()
    | st.lists(
        st.sampled_from(
            ["stripe.refunds.create", "GET stripe:/v1/charges/*", "stripe.unlisted.post"]
        )
    ).map(tuple),
    rules=st.just(()),
)
# Most scopes are open and most calls ordinary, or no example would reach the last checks.
moments = st.sampled_from([None] * 11 + [5])
scopes = st.builds(
    Standing,
    pk=st.integers(1, 9),
    uid=st.just("run_1"),
    kind=st.sampled_from(["run", "tool"]),
    label=st.sampled_from(["invoice-agent", "{0.__class__}", "\x1b[2J", "%s"]),
    mode=st.sampled_from(["enforce", "report"]),
    terms=terms,
    opened_at=st.just(0),
    expires_at=st.sampled_from([None] * 6 + [NOW - 1, NOW, NOW + 1]),
    closed_at=moments,
    revoked_at=moments,
    paused_at=moments,
    spent=st.integers(0, 4),
    reserved=st.integers(0, 4),
    calls=st.integers(0, 4),
    used=st.lists(
        st.builds(Used, st.just(0), rules, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
        max_size=2,
    ).map(tuple),
)
chains = st.lists(scopes, min_size=1, max_size=4)
refusals = st.sampled_from([None] * 12 + ["unknown_amount", "no_rate", *NEVER_SENT])
asked = st.builds(
    lambda call, refusal, value: Call(
        call.vendor,
        call.endpoint,
        call.method,
        call.path,
        call.effect,
        value_micros=value,
        refusal=refusal and (refusal, "because"),
    ),
    st.sampled_from([MONEY, MONEY, MONEY, READ, ODD]),
    refusals,
    st.none() | st.integers(0, 12),
)


def model(chain: list[Standing], call: Call, increase: int) -> tuple[str | None, str | None]:
    """Return the reason of the refusal and of the noted refusal; the first objecting scope decides."""
    noted = None
    for scope in chain:
        if hard := _hard(scope, call):
            return hard, None
        soft = _soft(scope, call, increase)
        if soft and scope.mode == "enforce":
            return soft, None
        noted = noted or soft
    return None, noted


def _hard(scope: Standing, call: Call) -> str | None:
    words = {"run_revoked": scope.revoked_at, "run_closed": scope.closed_at}
    for word, ended in (*words.items(), ("run_paused", scope.paused_at)):
        if ended is not None:
            return word
    return call.refusal[0] if call.refusal and call.refusal[0] in NEVER_SENT else None


def _soft(scope: Standing, call: Call, increase: int) -> str | None:  # noqa: PLR0911 -- one reason each
    said = scope.terms
    meant = {
        "stripe.refunds.create": MONEY,
        "GET stripe:/v1/charges/*": READ,
        "stripe.unlisted.post": ODD,
    }
    allowed = None if said.allow is None else [meant[pattern].path for pattern in said.allow]
    counted = [(said.cap, scope.spent + scope.reserved)]
    counted += [(used.rule.cap, used.spent + used.reserved) for used in scope.used]
    made = [(said.max_calls, scope.calls)]
    made += [(used.rule.max_calls, used.calls) for used in scope.used]
    if scope.expires_at is not None and scope.expires_at <= NOW:
        return "run_expired"
    if allowed is not None and call.path not in allowed:
        return "endpoint_not_allowed"
    if call.effect is Effect.UNCLASSIFIED:
        return "unclassified_endpoint"
    if call.refusal:
        return call.refusal[0]
    if said.max_amount is not None and max(increase, call.value_micros or 0) > said.max_amount:
        return "amount_too_large"
    if any(most is not None and calls >= most for most, calls in made):
        return "call_limit_reached"
    if increase and any(cap is not None and sum_ + increase > cap for cap, sum_ in counted):
        return "cap_exceeded"
    return None


def reason(refusal: errors.CallRefused | None) -> str | None:
    """Return the reason code of a refusal."""
    return None if refusal is None else refusal.reason


def decide(chain: list[Standing], call: Call, increase: int) -> Any:
    """Call the function under test, at a fixed time."""
    return policy_decision.decide(chain, call, increase=increase, now=NOW)


@settings(max_examples=400)
@given(chains, asked, st.integers(0, 12))
def test_decide_agrees_with_the_model(chain, call, increase):
    """The innermost objecting scope refuses, and a scope in report mode only notes it."""
    decision = decide(chain, call, increase)

    assert (reason(decision.refusal), reason(decision.would_refuse)) == model(chain, call, increase)


@given(chains, scopes, asked, st.integers(0, 12))
def test_another_scope_can_only_narrow(chain, outer, call, increase):
    """A call that a chain refuses is also refused with one more parent around it."""
    if decide(chain, call, increase).refusal is not None:
        assert decide([*chain, outer], call, increase).refusal is not None


@given(chains, asked, st.integers(0, 12), st.integers(0, 12))
def test_asking_for_less_money_is_never_worse(chain, call, one, other):
    """If a call fits, the same call with a smaller reservation fits."""
    less, more = sorted((one, other))

    if decide(chain, call, more).refusal is None:
        assert decide(chain, call, less).refusal is None


@given(chains, asked, st.integers(0, 12))
def test_nothing_is_admitted_past_a_cap(chain, call, increase):
    """An admitted call never breaks a cap of an enforcing scope."""
    if decide(chain, call, increase).refusal is not None or not increase:
        return
    for scope in (scope for scope in chain if scope.mode == "enforce"):
        for cap, counted in (
            (scope.terms.cap, scope.spent + scope.reserved),
            *((used.rule.cap, used.spent + used.reserved) for used in scope.used),
        ):
            assert cap is None or counted + increase <= cap


@given(chains, asked, st.integers(0, 12))
def test_a_refusal_tells_a_person_which_scope_and_a_model_not_to_retry(chain, call, increase):
    """Every refusal has label, endpoint, scope, reason and hint, and says that nothing was sent."""
    refusal = decide(chain, call, increase).refusal
    if refusal is None:
        return

    assert refusal.retryable is False
    assert refusal.label == chain[0].label
    assert refusal.run_id == chain[0].uid
    assert refusal.endpoint == call.endpoint
    assert refusal.scope
    assert refusal.hint
    label = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in chain[0].label)
    for part in (label, call.endpoint, "Nothing was sent", "Do not retry", refusal.hint):
        assert part in str(refusal)


def standing(**facts: Any) -> Standing:
    """Return an open run without limits, save for *facts*."""
    policy = {"cap": None, "max_calls": None, "max_amount": None, "allow": None, "rules": ()}
    policy |= {name: facts.pop(name) for name in list(facts) if name in policy}
    known = {
        "pk": 1, "uid": "run_1", "kind": "run", "label": "invoice-agent", "mode": "enforce", "terms": Terms(**policy),
        "opened_at": 0, "expires_at": None, "closed_at": None, "revoked_at": None, "paused_at": None, "spent": 0,
        "reserved": 0, "calls": 0, "parent": None, "used": (),
    }  # fmt: skip
    return Standing(**{**known, **facts})


def test_a_cap_refusal_has_all_amounts():
    """Cap, spent, reserved, requested and remaining are Decimal dollars, and appear in the text."""
    run = standing(cap=200_000_000, spent=187_600_000, reserved=5_000_000)

    refusal = decide([run], MONEY, 50_000_000).refusal

    assert isinstance(refusal, errors.CapExceeded)
    assert (refusal.cap, refusal.spent, refusal.reserved) == (200, Decimal("187.6"), 5)
    assert (refusal.requested, refusal.remaining) == (50, Decimal("7.40"))
    assert refusal.scope == "run cap"
    for amount in ("$50.00", "$7.40", "$200.00", "$187.60", "$5.00"):
        assert amount in str(refusal)


@pytest.mark.parametrize("increase", [1, 5, 10])
def test_the_last_micro_fits_and_one_more_does_not(increase):
    """A cap and a limit are hard edges, exact to the micro."""
    full = 10 - increase
    for run in (
        standing(cap=10, spent=full),
        standing(cap=10, reserved=full),
        standing(used=(Used(0, Rule("*", "day", 10, None), full, 0, 1),)),
        standing(max_amount=increase),
    ):
        assert decide([run], MONEY, increase).refusal is None
        assert decide([run], MONEY, increase + 1).refusal is not None


def test_the_remainder_is_never_negative():
    """A scope that has exceeded its cap has zero left."""
    refusal = decide([standing(cap=10, spent=25)], MONEY, 1).refusal

    assert refusal.remaining == 0


def test_a_free_call_fits_an_exceeded_cap():
    """A read or a cancel is admitted in a run that has spent its whole cap."""
    assert decide([standing(cap=10, spent=25)], READ, 0).refusal is None


@each(
    ("scope", "kind", "word", "text"),
    [
        ({"max_amount": 5}, errors.AmountTooLarge, "run", "this run allows"),
        ({"max_calls": 0}, errors.CallLimitReached, "run max_calls", "used up its 0 calls"),
        ({"allow": ()}, errors.EndpointNotAllowed, "run", "not on the allowlist of this run"),
        ({"revoked_at": 7}, errors.RunRevoked, "run", "1970-01-01T00:00:00.000007Z"),
        ({"expires_at": 7}, errors.RunExpired, "run", "expired at"),
        (
            {"used": (Used(0, Rule("*", "day", 5, None), 5, 0, 1),)},
            errors.CapExceeded,
            "run daily_usd_cap",
            "per UTC day",
        ),
        (
            {"used": (Used(0, Rule("stripe.refunds.*", "90m", 5, None), 5, 0, 1),)},
            errors.CapExceeded,
            "run limits[stripe.refunds.*] per 90m",
            "limits[stripe.refunds.*] per 90m",
        ),
        (
            {"used": (Used(0, Rule("stripe.refunds.*", "hour", None, 1), 5, 0, 1),)},
            errors.CallLimitReached,
            "run limits[stripe.refunds.*] per hour",
            "stripe.refunds.* per hour",
        ),
    ],
)
def test_a_refusal_names_the_limit(scope, kind, word, text):
    """The scope field has the limit that refused, and the text describes it."""
    refusal = decide([standing(**scope)], MONEY, 10).refusal

    assert type(refusal) is kind
    assert refusal.scope == word
    assert text in str(refusal)


def test_a_parent_and_a_tool_are_named():
    """The refusal names the parent or tool that refused, if it was not the run itself."""
    child = standing(pk=2, uid="run_2", label="child")
    parent = standing(cap=1, uid="run_1", label="boss")
    tool = standing(pk=3, kind="tool", label="pay", cap=1)

    above = decide([child, parent], MONEY, 10).refusal
    inside = decide([child, tool, parent], MONEY, 10).refusal

    assert (above.scope, above.run_id, above.label) == ("parent run_1 cap", "run_2", "child")
    assert "the parent run 'boss'" in str(above)
    assert inside.scope == "tool pay cap"
    assert "tool 'pay'" in str(inside)
