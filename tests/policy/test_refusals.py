"""The text of each refusal says why, that nothing was sent, and how a person can fix it."""

from decimal import Decimal
from typing import Any, NamedTuple

from keybrake import errors
from keybrake.model.call import Call, Effect
from keybrake.policy import decision as policy_decision
from keybrake.policy.decision import Standing, Used
from keybrake.policy.policy import Rule, Terms
from tests._each import each

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z, in micros
REFUND = Call("stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY)
ODD = Call("stripe", "stripe.unlisted.post", "POST", "/v1/odd", Effect.UNCLASSIFIED)
PORTAL = Call(
    "stripe", "stripe.portal.create", "POST", "/v1/billing_portal/sessions", Effect.AUTHORITY
)
UNLISTED = Call("twilio", "twilio.unlisted.get", "GET", "/2010-04-01/Odd.json", Effect.AUTHORITY)
ASK_TO_ALLOW = "Ask a person to add 'stripe.refunds.create' to allow."
UNCOUNTED = "Calls that may move money in ways keybrake cannot count do not go out."


def scope(**facts: Any) -> Standing:
    """Return an open run without limits, save for *facts*."""
    policy = {"cap": None, "max_calls": None, "max_amount": None, "allow": None, "rules": ()}
    policy |= {name: facts.pop(name) for name in list(facts) if name in policy}
    known = {
        "pk": 1, "uid": "run_1", "kind": "run", "label": "invoice-agent", "mode": "enforce", "terms": Terms(**policy),
        "opened_at": 0, "expires_at": None, "closed_at": None, "revoked_at": None, "paused_at": None, "spent": 0,
        "reserved": 0, "calls": 0, "parent": None, "used": (),
    }  # fmt: skip
    return Standing(**{**known, **facts})


def because(reason: str, why: str = "it says so") -> Call:
    """Return a call that was refused while it was described."""
    return REFUND._replace(refusal=(reason, why))


def used(
    pattern: str,
    per: str,
    cap: int | None = None,
    most: int | None = None,
    *,
    spent: int = 0,
    reserved: int = 0,
    calls: int = 0,
) -> tuple[Used]:
    """Return one limit and its counts; dollars in, micros out."""
    micros = None if cap is None else cap * 10**6
    return (Used(0, Rule(pattern, per, micros, most), spent * 10**6, reserved * 10**6, calls),)


class Case(NamedTuple):
    """A run, a call, and the expected text."""

    run: Standing
    call: Call
    kind: type[errors.CallRefused]
    reason: str
    why: str
    hint: str
    scope: str = "run"
    amounts: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    increase: int = 0


# One case for each reason of a refusal.
CASES = {
    "revoked": Case(
        scope(revoked_at=NOON),
        REFUND,
        errors.RunRevoked,
        "run_revoked",
        "this run was revoked at 2026-01-01T12:00:00.000000Z",
        "A revoked run stays revoked; a person has to start a new one.",
    ),
    "closed": Case(
        scope(closed_at=NOON),
        REFUND,
        errors.RunClosed,
        "run_closed",
        "this run was closed at 2026-01-01T12:00:00.000000Z",
        "Make the call inside the run's with block.",
    ),
    "paused": Case(
        scope(paused_at=NOON),
        REFUND,
        errors.RunPaused,
        "run_paused",
        "this run was paused at 2026-01-01T12:00:00.000000Z",
        "A person has to resume it: keybrake resume.",
    ),
    "expired": Case(
        scope(expires_at=NOON),
        REFUND,
        errors.RunExpired,
        "run_expired",
        "this run expired at 2026-01-01T12:00:00.000000Z",
        "A person has to start a new run.",
    ),
    "not allowed": Case(
        scope(allow=("stripe.charges.*",)),
        REFUND,
        errors.EndpointNotAllowed,
        "endpoint_not_allowed",
        "stripe.refunds.create is not on the allowlist of this run",
        ASK_TO_ALLOW,
    ),
    "not allowed and unknown": Case(
        scope(allow=("stripe.charges.*",)),
        ODD,
        errors.EndpointNotAllowed,
        "endpoint_not_allowed",
        "stripe.unlisted.post is not on the allowlist of this run",
        UNCOUNTED,
    ),
    "unknown": Case(
        scope(),
        ODD,
        errors.EndpointNotAllowed,
        "unclassified_endpoint",
        "nothing is known about what POST /v1/odd does with money",
        UNCOUNTED,
    ),
    "authority": Case(
        scope(allow=("stripe.*.*",)),
        PORTAL,
        errors.EndpointNotAllowed,
        "standing_authority",
        "stripe.portal.create gives authority whose use cannot be priced, and the allowlist of this "
        "run does not name it exactly",
        "Ask a person to add 'stripe.portal.create' to allow.",
    ),
    "authority without a name": Case(
        scope(),
        UNLISTED,
        errors.EndpointNotAllowed,
        "standing_authority",
        "twilio.unlisted.get gives authority whose use cannot be priced, and the allowlist of this run "
        "does not name it exactly",
        "Ask a person to add 'GET twilio:/2010-04-01/Odd.json' to allow.",
    ),
    "authority that cannot be read": Case(
        scope(),
        UNLISTED._replace(refusal=("path_not_canonical", "it has the segment '..'")),
        errors.EndpointNotAllowed,
        "path_not_canonical",
        "it has the segment '..'",
        "Change the call.",
    ),
    "no rate": Case(
        scope(),
        because("no_rate", "nobody knows what a florin is worth"),
        errors.UnknownCost,
        "no_rate",
        "nobody knows what a florin is worth",
        "Ask a person for the rate or price; do not try another currency.",
    ),
    "no amount": Case(
        scope(),
        because("unknown_amount", "it names no amount"),
        errors.UnknownCost,
        "unknown_amount",
        "it names no amount",
        "Check the ids in the call, or name the amount.",
    ),
    "any other reason": Case(
        scope(),
        because("odd_reason", "it is odd"),
        errors.UnknownCost,
        "odd_reason",
        "it is odd",
        "Change the call.",
    ),
    "host": Case(
        scope(),
        because("host_not_allowed"),
        errors.HostNotAllowed,
        "host_not_allowed",
        "it says so",
        "Leave the SDK's address, proxy and TLS settings as they are.",
    ),
    "path": Case(
        scope(),
        because("path_not_canonical"),
        errors.EndpointNotAllowed,
        "path_not_canonical",
        "it says so",
        "Change the call.",
    ),
    "header": Case(
        scope(),
        because("header_override"),
        errors.EndpointNotAllowed,
        "header_override",
        "it says so",
        "Change the call.",
    ),
    "key": Case(
        scope(),
        because("invalid_idempotency_key"),
        errors.EndpointNotAllowed,
        "invalid_idempotency_key",
        "it says so",
        "Change the call.",
    ),
    "credential": Case(
        scope(),
        because("credential_unavailable"),
        errors.CredentialUnavailable,
        "credential_unavailable",
        "it says so",
        "Ask a person for a credential.",
    ),
    "beyond counting": Case(
        scope(),
        REFUND._replace(value_micros=policy_decision.MOST_VALUE + 10**6),
        errors.AmountTooLarge,
        "amount_too_large",
        "it asks for $10,000,000,001.00, more than keybrake can count",
        "Lower the amount.",
        amounts={"requested": 10_000_000_001},
    ),
    "too large": Case(
        scope(max_amount=5 * 10**6),
        REFUND,
        errors.AmountTooLarge,
        "amount_too_large",
        "it asks for $7.50, and this run allows $5.00 a call",
        "Do not split it; ask a person to raise max_amount.",
        amounts={"cap": 5, "requested": Decimal("7.5")},
        increase=7_500_000,
    ),
    "too large, though little of it is new": Case(
        scope(max_amount=5 * 10**6),
        REFUND._replace(value_micros=7_500_000),
        errors.AmountTooLarge,
        "amount_too_large",
        "it asks for $7.50, and this run allows $5.00 a call",
        "Do not split it; ask a person to raise max_amount.",
        amounts={"cap": 5, "requested": Decimal("7.5")},
        increase=10**6,
    ),
    "the only call is used up": Case(
        scope(max_calls=1, calls=1),
        REFUND,
        errors.CallLimitReached,
        "call_limit_reached",
        "this run has used up its 1 call",
        "Ask a person to raise max_calls.",
        "run max_calls",
    ),
    "calls are used up": Case(
        scope(max_calls=3, calls=4),
        REFUND,
        errors.CallLimitReached,
        "call_limit_reached",
        "this run has used up its 3 calls",
        "Ask a person to raise max_calls.",
        "run max_calls",
    ),
    "calls of a limit are used up": Case(
        scope(used=used("stripe.refunds.*", "hour", most=2, calls=2)),
        REFUND,
        errors.CallLimitReached,
        "call_limit_reached",
        "this run has used up its 2 calls of stripe.refunds.* per hour",
        "Ask a person to raise max_calls.",
        "run limits[stripe.refunds.*] per hour",
    ),
    "cap": Case(
        scope(cap=200 * 10**6, spent=187_600_000, reserved=5 * 10**6),
        REFUND,
        errors.CapExceeded,
        "cap_exceeded",
        "it may cost $50.00, and $7.40 of the $200.00 cap of this run is left ($187.60 spent, "
        "$5.00 reserved)",
        "Ask a person to raise the cap, or lower the amount.",
        "run cap",
        {
            "cap": 200,
            "spent": Decimal("187.6"),
            "reserved": 5,
            "requested": 50,
            "remaining": Decimal("7.4"),
        },
        increase=50 * 10**6,
    ),
    "daily cap": Case(
        scope(used=used("*", "day", 10, spent=6, reserved=3)),
        REFUND,
        errors.CapExceeded,
        "cap_exceeded",
        "it may cost $2.00, and $1.00 of the $10.00 daily_usd_cap (per UTC day) of this run is left "
        "($6.00 spent, $3.00 reserved)",
        "Ask a person to raise the cap, or lower the amount.",
        "run daily_usd_cap",
        {"cap": 10, "spent": 6, "reserved": 3, "requested": 2, "remaining": 1},
        increase=2 * 10**6,
    ),
    "limit": Case(
        scope(used=used("stripe.refunds.*", "90m", 10, spent=6, reserved=5)),
        REFUND,
        errors.CapExceeded,
        "cap_exceeded",
        "it may cost $2.00, and $0.00 of the $10.00 limits[stripe.refunds.*] per 90m of this run is "
        "left ($6.00 spent, $5.00 reserved)",
        "Ask a person to raise the cap, or lower the amount.",
        "run limits[stripe.refunds.*] per 90m",
        {"cap": 10, "spent": 6, "reserved": 5, "requested": 2, "remaining": 0},
        increase=2 * 10**6,
    ),
    "limit of a kind of money": Case(
        scope(used=used("meter:outflow", "day", 10, spent=9)),
        REFUND,
        errors.CapExceeded,
        "cap_exceeded",
        "it may cost $2.00, and $1.00 of the $10.00 meter:outflow limit per day of this run is left "
        "($9.00 spent, $0.00 reserved)",
        "Ask a person to raise the cap, or lower the amount.",
        "run meter:outflow limit per day",
        {"cap": 10, "spent": 9, "reserved": 0, "requested": 2, "remaining": 1},
        increase=2 * 10**6,
    ),
}


def refusal_of(case: Case) -> errors.CallRefused:
    """Return the refusal of a case."""
    decision = policy_decision.decide([case.run], case.call, increase=case.increase, now=NOON)
    assert decision.refusal is not None
    assert decision.would_refuse is None
    return decision.refusal


@each("case", CASES.values(), ids=CASES)
def test_a_refusal_has_all_its_sentences(case):
    """The text has the run, the endpoint, the reason, that nothing was sent, not to retry, and a hint."""
    refusal = refusal_of(case)

    assert str(refusal) == (
        f"invoice-agent: {case.call.endpoint} refused: {case.why}. Nothing was sent. "
        f"Do not retry: the same call will be refused again. {case.hint}"
    )


@each("case", CASES.values(), ids=CASES)
def test_a_refusal_has_fields_for_programs(case):
    """Programs read type and fields, and a field that does not apply is None."""
    refusal = refusal_of(case)
    nothing = dict.fromkeys(("cap", "spent", "reserved", "requested", "remaining"))

    assert type(refusal) is case.kind
    assert refusal.fields == {
        "reason": case.reason,
        "run_id": "run_1",
        "label": "invoice-agent",
        "scope": case.scope,
        "endpoint": case.call.endpoint,
        "hint": case.hint,
        **nothing,
        **case.amounts,
    }


@each("case", CASES.values(), ids=CASES)
def test_a_noted_refusal_has_the_same_text(case):
    """Report mode notes a policy refusal with the same text, and a stopped run still refuses."""
    reporting = case._replace(run=case.run._replace(mode="report"))
    decision = policy_decision.decide([reporting.run], case.call, increase=case.increase, now=NOON)
    stopped = {"run_revoked", "run_closed", "run_paused"}
    unsendable = {"host_not_allowed", "header_override", "invalid_idempotency_key"}
    beyond = case.call.value_micros > policy_decision.MOST_VALUE
    binds = case.reason in stopped | unsendable | {"credential_unavailable"} or beyond
    said = decision.refusal if binds else decision.would_refuse

    assert str(said) == str(refusal_of(case))
    assert (decision.refusal is None, decision.would_refuse is None) == (not binds, binds)


# The scope that refused

CHILD = scope(pk=7, uid="run_7", label="child")
BOSS = {"uid": "run_1", "label": "boss"}
TOOL = {"pk": 3, "uid": "run_7:pay", "kind": "tool", "label": "pay", "parent": 7}

WHOSE = [
    ({**BOSS, "revoked_at": NOON}, "the parent run 'boss' was revoked at", "parent run_1"),
    ({**BOSS, "paused_at": NOON}, "the parent run 'boss' was paused at", "parent run_1"),
    ({**BOSS, "closed_at": NOON}, "the parent run 'boss' was closed at", "parent run_1"),
    ({**BOSS, "expires_at": NOON}, "the parent run 'boss' expired at", "parent run_1"),
    ({**BOSS, "allow": ()}, "not on the allowlist of the parent run 'boss'", "parent run_1"),
    ({**BOSS, "max_amount": 1}, "the parent run 'boss' allows $0.000001 a call", "parent run_1"),
    ({**BOSS, "max_calls": 0}, "the parent run 'boss' has used up", "parent run_1 max_calls"),
    ({**BOSS, "cap": 1}, "cap of the parent run 'boss' is left", "parent run_1 cap"),
    ({**TOOL, "expires_at": NOON}, "tool 'pay' expired at", "tool pay"),
    ({**TOOL, "allow": ()}, "not on the allowlist of tool 'pay'", "tool pay"),
    ({**TOOL, "max_amount": 1}, "tool 'pay' allows $0.000001 a call", "tool pay"),
    ({**TOOL, "max_calls": 0}, "tool 'pay' has used up its 0 calls", "tool pay max_calls"),
    ({**TOOL, "cap": 1}, "cap of tool 'pay' is left", "tool pay cap"),
    (
        {**TOOL, "used": used("stripe.refunds.*", "hour", most=0)},
        "tool 'pay' has used up its 0 calls of stripe.refunds.* per hour",
        "tool pay limits[stripe.refunds.*] per hour",
    ),
    (
        {**TOOL, "used": used("*", "day", 0)},
        "$0.00 daily_usd_cap (per UTC day) of tool 'pay' is left",
        "tool pay daily_usd_cap",
    ),
]


@each(("facts", "why", "word"), WHOSE, ids=[case[1] for case in WHOSE])
def test_a_refusal_names_the_scope_that_refused(facts, why, word):
    """The text begins with the calling run, and names the parent or tool that refused."""
    refusal = policy_decision.decide([CHILD, scope(**facts)], REFUND, increase=2, now=NOON).refusal

    assert str(refusal).startswith("child: stripe.refunds.create refused: ")
    assert why in str(refusal)
    assert (refusal.run_id, refusal.label, refusal.scope) == ("run_7", "child", word)
