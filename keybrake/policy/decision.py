"""Decide whether a call may be sent, in one pure function, and build the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from keybrake import errors
from keybrake.errors import CallRefused
from keybrake.model import clock
from keybrake.model.call import Call, Effect
from keybrake.model.money import show, usd
from keybrake.policy.clash import Clash
from keybrake.policy.policy import METER, Rule, Terms, matches, names_exactly
from keybrake.policy.refusals import plain


class Used(NamedTuple):
    """Money (in micros) and calls already counted in the window of one rule."""

    nr: int
    rule: Rule
    spent: int
    reserved: int
    calls: int


class Standing(NamedTuple):
    """Current state of one scope in the ledger. Money in micro-USD, times in microseconds."""

    pk: int
    uid: str
    kind: str
    label: str
    mode: str
    terms: Terms
    opened_at: int
    expires_at: int | None
    closed_at: int | None
    revoked_at: int | None
    paused_at: int | None
    spent: int
    reserved: int
    calls: int
    parent: int | None
    used: tuple[Used, ...]


class Decision(NamedTuple):
    """The refusal to raise; None: send the call. *would_refuse*: the refusal, in report mode."""

    refusal: CallRefused | None
    would_refuse: CallRefused | None


def decide(
    chain: Sequence[Standing],
    call: Call,
    *,
    increase: int,
    now: int,
    clash: Clash | None = None,
) -> Decision:
    """
    Decide whether a call may be sent. A pure function without I/O.

    Every scope in the chain must allow it. The order of the checks decides which reason is
    reported: state of the scope, endpoint, known cost, number of calls, money.

    Args:
        chain: The scopes of the call, from the innermost to the outermost.
        call: The call, with its price.
        increase: The amount to reserve, in micros.
        now: Ledger time in microseconds.
        clash: A conflict with the price of another call, if there is one.
    """
    would_refuse = None
    for scope in chain:
        # These three refuse in report mode as well: a person has stopped the run, or sending the call
        # would leak a credential or overflow the ledger. Report mode covers only the policy.
        refusal = (
            _ended(scope, chain[0], call)
            or _unsendable(scope, chain[0], call)
            or _beyond_counting(scope, chain[0], call)
        )
        if refusal is not None:
            return Decision(refusal, None)
        objection = _objection(scope, chain[0], call, increase, now, clash)
        if objection is None:
            continue
        if scope.mode != "report":
            return Decision(objection, None)
        would_refuse = would_refuse or objection
    return Decision(_not_looked_up(chain, call), would_refuse)


def _not_looked_up(chain: Sequence[Standing], call: Call) -> CallRefused | None:
    """
    Refuse a call whose look-up was never made.

    The guard skips the look-up for a call that is refused anyway. If the reason of that refusal has
    gone by now (the run was resumed, or a new hour began), the call has no price and must not be sent.
    """
    if call.lookup is None or call.lookup.path is None:
        return None
    return _refusal(
        errors.UnknownCost,
        "unknown_amount",
        chain[0],
        chain[0],
        call,
        why="its cost was not looked up, because the call was refused at first",
        hint="Make the call again.",
    )


def _ended(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    if scope.revoked_at is not None:
        return _state(errors.RunRevoked, scope, caller, call, "revoked", scope.revoked_at)
    if scope.closed_at is not None:
        return _state(errors.RunClosed, scope, caller, call, "closed", scope.closed_at)
    if scope.paused_at is not None:
        return _state(errors.RunPaused, scope, caller, call, "paused", scope.paused_at)
    return None


def _objection(
    scope: Standing, caller: Standing, call: Call, increase: int, now: int, clash: Clash | None
) -> CallRefused | None:
    if scope.expires_at is not None and now >= scope.expires_at:
        return _state(errors.RunExpired, scope, caller, call, "expired", scope.expires_at)
    return (
        _not_allowed(scope, caller, call)
        or _not_describable(scope, caller, call)
        or _price_unsure(scope, caller, call, clash)
        or _too_large(scope, caller, call, increase)
        or _too_many(scope, caller, call)
        or _too_much(scope, caller, call, increase)
    )


_UNCOUNTED = "Calls that may move money in ways keybrake cannot count do not go out."


def _not_allowed(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    allow = scope.terms.allow
    if allow is not None and not any(
        matches(pattern, call.endpoint, call.method, call.path) for pattern in allow
    ):
        return _refusal(
            errors.EndpointNotAllowed,
            "endpoint_not_allowed",
            scope,
            caller,
            call,
            why=f"{call.endpoint} is not on the allowlist of {_name(scope, caller)}",
            hint=_UNCOUNTED
            if call.effect is Effect.UNCLASSIFIED
            else f"Ask a person to add {_pattern_of(call)!r} to allow.",
        )
    if _has_odd_path(call):
        return None
    if call.effect is Effect.AUTHORITY:
        return _not_named(scope, caller, call)
    if call.effect is Effect.UNCLASSIFIED:
        return _refusal(
            errors.EndpointNotAllowed,
            "unclassified_endpoint",
            scope,
            caller,
            call,
            why=f"nothing is known about what {call.method} {call.path} does with money",
            hint=_UNCOUNTED,
        )
    return None


def _has_odd_path(call: Call) -> bool:
    """Return whether the path is not canonical: ``_not_describable`` then gives the better reason."""
    return call.refusal is not None and call.refusal[0] == "path_not_canonical"


def _pattern_of(call: Call) -> str:
    """Return the allowlist pattern that allows exactly this call."""
    vendor, _, resource = call.endpoint.partition(".")
    is_listed = not resource.startswith("unlisted.")
    return call.endpoint if is_listed else f"{call.method} {vendor}:{call.path}"


def _not_named(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    """Refuse standing authority unless the outermost scope and every allowlist name it exactly."""
    allow = scope.terms.allow
    named = allow is not None and any(names_exactly(pattern, call) for pattern in allow)
    if named or (allow is None and scope.parent is not None):
        return None
    return _refusal(
        errors.EndpointNotAllowed,
        "standing_authority",
        scope,
        caller,
        call,
        why=(
            f"{call.endpoint} gives authority whose use cannot be priced, and the allowlist of "
            f"{_name(scope, caller)} does not name it exactly"
        ),
        hint=f"Ask a person to add {_pattern_of(call)!r} to allow.",
    )


def _not_describable(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    if call.refusal is None:
        return None
    reason, why = call.refusal
    kind = _KIND_OF_REASON.get(reason, errors.UnknownCost)
    hint = _HINT_OF_REASON.get(reason, "Change the call.")
    retry = _RETRY_OF_REASON.get(reason, _RETRY)
    return _refusal(kind, reason, scope, caller, call, why=why, hint=hint, retry=retry)


def _unsendable(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    hard = call.refusal is not None and call.refusal[0] in _NEVER_SENT
    return _not_describable(scope, caller, call) if hard else None


def _price_unsure(
    scope: Standing, caller: Standing, call: Call, clash: Clash | None
) -> CallRefused | None:
    """Refuse a call that conflicts with another call about a price."""
    if clash is None:
        return None
    reason, why = clash.words()
    return _refusal(
        errors.UnknownCost,
        reason,
        scope,
        caller,
        call,
        why=why,
        hint=clash.hint(),
        retry="Do not retry it at once.",
    )


# The largest value of one call, in micros: ten billion dollars. It keeps totals far below the limit of
# an int64.
MOST_VALUE = 10**16


def _beyond_counting(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    if (call.value_micros or 0) <= MOST_VALUE:
        return None
    return _refusal(
        errors.AmountTooLarge,
        "amount_too_large",
        scope,
        caller,
        call,
        why=f"it asks for {show(call.value_micros or 0)}, more than keybrake can count",
        hint="Lower the amount.",
        requested=usd(call.value_micros or 0),
    )


_NEVER_SENT = frozenset(
    {
        "account_not_allowed",
        "credential_unavailable",
        "header_override",
        "hook_taken_out",
        "host_not_allowed",
        "invalid_idempotency_key",
        "past_the_guard",
    }
)

_HINT_OF_REASON = {
    "no_rate": "Ask a person for the rate or price; do not try another currency.",
    "unknown_amount": "Check the ids in the call, or name the amount.",
    "credential_unavailable": "Ask a person for a credential.",
    "host_not_allowed": "Leave the SDK's address, proxy and TLS settings as they are.",
    "hook_taken_out": "Tell a developer: a mock or tracer ended inside the run.",
    "past_the_guard": "Call the SDK's resource methods or raw_request(), or write keybrake.unguarded(reason).",
    "account_not_allowed": "Ask a person to name it in [vendors.*] accounts in keybrake.toml.",
}

_KIND_OF_REASON: dict[str, type[CallRefused]] = {
    "host_not_allowed": errors.HostNotAllowed,
    "path_not_canonical": errors.EndpointNotAllowed,
    "account_not_allowed": errors.EndpointNotAllowed,
    "header_override": errors.EndpointNotAllowed,
    "hook_taken_out": errors.EndpointNotAllowed,
    "past_the_guard": errors.EndpointNotAllowed,
    "invalid_idempotency_key": errors.EndpointNotAllowed,
    "credential_unavailable": errors.CredentialUnavailable,
}


_RETRY = "Do not retry: the same call will be refused again."
_RETRY_OF_REASON = {
    "hook_taken_out": "The hook is in again: the same call is guarded if it is made once more.",
}


def _too_large(scope: Standing, caller: Standing, call: Call, increase: int) -> CallRefused | None:
    largest = scope.terms.max_amount
    asked = max(increase, call.value_micros or 0)
    if largest is None or asked <= largest:
        return None
    return _refusal(
        errors.AmountTooLarge,
        "amount_too_large",
        scope,
        caller,
        call,
        why=f"it asks for {show(asked)}, and {_name(scope, caller)} allows {show(largest)} a call",
        hint="Do not split it; ask a person to raise max_amount.",
        cap=usd(largest),
        requested=usd(asked),
    )


def _too_many(scope: Standing, caller: Standing, call: Call) -> CallRefused | None:
    if scope.terms.max_calls is not None and scope.calls >= scope.terms.max_calls:
        return _call_limit(scope, caller, call, scope.terms.max_calls, "max_calls", "")
    for used in scope.used:
        if used.rule.max_calls is not None and used.calls >= used.rule.max_calls:
            what = f" of {used.rule.pattern} per {used.rule.per}"
            return _call_limit(scope, caller, call, used.rule.max_calls, _limit_name(used), what)
    return None


def _call_limit(
    scope: Standing, caller: Standing, call: Call, most: int, limit: str, what: str
) -> CallRefused:
    name = _name(scope, caller)
    return _refusal(
        errors.CallLimitReached,
        "call_limit_reached",
        scope,
        caller,
        call,
        why=f"{name} has used up its {most} call{'' if most == 1 else 's'}{what}",
        hint="Ask a person to raise max_calls.",
        limit=limit,
    )


def _too_much(scope: Standing, caller: Standing, call: Call, increase: int) -> CallRefused | None:
    cap = scope.terms.cap
    # A call without extra cost fits, even if a late price from the vendor has already exceeded the cap.
    if increase == 0:
        return None
    if cap is not None and scope.spent + scope.reserved + increase > cap:
        return _cap_exceeded(
            scope, caller, call, increase, Counted(cap, scope.spent, scope.reserved), "cap"
        )
    for used in scope.used:
        cap = used.rule.cap
        if cap is not None and used.spent + used.reserved + increase > cap:
            counted = Counted(cap, used.spent, used.reserved)
            return _cap_exceeded(scope, caller, call, increase, counted, _limit_name(used))
    return None


class Counted(NamedTuple):
    """A cap, and the money counted against it, in micros."""

    cap: int
    spent: int
    reserved: int


def _limit_name(used: Used) -> str:
    if used.rule.pattern == "*":
        return "daily_usd_cap"
    if used.rule.pattern.startswith(METER):
        return f"{used.rule.pattern} limit per {used.rule.per}"
    return f"limits[{used.rule.pattern}] per {used.rule.per}"


def _cap_exceeded(
    scope: Standing, caller: Standing, call: Call, increase: int, counted: Counted, limit: str
) -> CallRefused:
    left = max(0, counted.cap - counted.spent - counted.reserved)
    day = " (per UTC day)" if limit == "daily_usd_cap" else ""
    return _refusal(
        errors.CapExceeded,
        "cap_exceeded",
        scope,
        caller,
        call,
        why=(
            f"it may cost {show(increase)}, and {show(left)} of the {show(counted.cap)} {limit}{day} "
            f"of {_name(scope, caller)} is left ({show(counted.spent)} spent, "
            f"{show(counted.reserved)} reserved)"
        ),
        hint="Ask a person to raise the cap, or lower the amount.",
        limit=limit,
        cap=usd(counted.cap),
        spent=usd(counted.spent),
        reserved=usd(counted.reserved),
        requested=usd(increase),
        remaining=usd(left),
    )


def _state(
    kind: type[CallRefused], scope: Standing, caller: Standing, call: Call, word: str, at: int
) -> CallRefused:
    hint = {
        "revoked": "A revoked run stays revoked; a person has to start a new one.",
        "paused": "A person has to resume it: keybrake resume.",
        "expired": "A person has to start a new run.",
        "closed": "Make the call inside the run's with block.",
    }[word]
    why = f"{_name(scope, caller)} was {word} at {clock.iso(at)}"
    if word == "expired":
        why = f"{_name(scope, caller)} expired at {clock.iso(at)}"
    return _refusal(kind, f"run_{word}", scope, caller, call, why=why, hint=hint)


def _name(scope: Standing, caller: Standing) -> str:
    if scope.kind == "tool":
        return f"tool {plain(scope.label)!r}"
    if scope.pk == caller.pk:
        return "this run"
    return f"the parent run {plain(scope.label)!r}"


def _scope_word(scope: Standing, caller: Standing, limit: str | None) -> str:
    word = "run" if scope.pk == caller.pk else f"parent {scope.uid}"
    if scope.kind == "tool":
        word = f"tool {scope.label}"
    return word if limit is None else f"{word} {limit}"


def _refusal(  # noqa: PLR0913 -- the parts of one sentence
    kind: type[CallRefused],
    reason: str,
    scope: Standing,
    caller: Standing,
    call: Call,
    *,
    why: str,
    hint: str,
    limit: str | None = None,
    retry: str = _RETRY,
    **amounts: Decimal,
) -> CallRefused:
    message = (
        f"{plain(caller.label)}: {call.endpoint} refused: {why}. Nothing was sent. {retry} {hint}"
    )
    return kind(
        message,
        reason=reason,
        run_id=caller.uid,
        label=caller.label,
        scope=_scope_word(scope, caller, limit),
        endpoint=call.endpoint,
        hint=hint,
        **amounts,
    )
