"""decide() at its edges: the last micro, the last call, the last moment."""

import pytest

from keybrake.policy import decision as policy_decision
from tests.policy.test_refusals import BOSS, NOON, PORTAL, REFUND, because, scope, used

# Report mode still refuses these calls, because sending them could leak a credential.
BINDING = (
    "host_not_allowed",
    "header_override",
    "invalid_idempotency_key",
    "credential_unavailable",
)


@pytest.mark.parametrize("reason", BINDING)
def test_a_call_that_must_never_be_sent_is_refused_in_report_mode(reason):
    """The innermost scope refuses it, whatever the mode."""
    chain = [scope(mode="report"), scope(**BOSS, pk=2, mode="report")]
    decision = policy_decision.decide(chain, because(reason), increase=0, now=NOON)

    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.scope) == (reason, "run")
    assert decision.would_refuse is None


def test_a_reporting_chain_notes_its_first_objection():
    """A later objection of an outer scope does not replace it."""
    chain = [scope(mode="report", max_calls=0), scope(**BOSS, pk=2, mode="report", cap=0)]
    decision = policy_decision.decide(chain, REFUND, increase=1, now=NOON)

    assert decision.refusal is None
    assert decision.would_refuse.scope == "run max_calls"


def test_an_enforcing_parent_of_a_reporting_run_refuses():
    """Its refusal is raised, and nothing is noted in addition."""
    chain = [scope(mode="report", max_calls=0), scope(**BOSS, pk=2, cap=0)]
    decision = policy_decision.decide(chain, REFUND, increase=1, now=NOON)

    assert decision.refusal.scope == "parent run_1 cap"
    assert decision.would_refuse is None


# Edges


def test_the_largest_countable_amount_is_admitted():
    """The limit is ten billion dollars to the micro, and a call without a value is not too large."""
    for micros, refused in (
        (policy_decision.MOST_VALUE, False),
        (policy_decision.MOST_VALUE + 1, True),
    ):
        call = REFUND._replace(value_micros=micros)
        decision = policy_decision.decide([scope()], call, increase=0, now=NOON)
        assert (decision.refusal is not None) is refused
    nothing = REFUND._replace(value_micros=None)
    assert (
        policy_decision.decide([scope(max_amount=0)], nothing, increase=0, now=NOON).refusal is None
    )


def test_a_run_expires_exactly_on_time():
    """A run is open one microsecond before it expires."""
    for now, refused in ((NOON - 1, False), (NOON, True), (NOON + 1, True)):
        decision = policy_decision.decide([scope(expires_at=NOON)], REFUND, increase=0, now=now)
        assert (decision.refusal is not None) is refused


def test_max_calls_is_exact():
    """A run and a limit admit their last call, and refuse the next one."""
    for calls, refused in ((1, False), (2, True)):
        for run in (
            scope(max_calls=2, calls=calls),
            scope(used=used("stripe.refunds.*", "hour", most=2, calls=calls)),
        ):
            decision = policy_decision.decide([run], REFUND, increase=0, now=NOON)
            assert (decision.refusal is not None) is refused


def test_every_limit_is_checked():
    """A limit with room does not hide a later one without, for calls and for money."""
    free = used("stripe.*.*", "day", 10, 10)
    for full in (used("*", "day", 1, spent=1), used("stripe.refunds.*", "hour", most=1, calls=1)):
        decision = policy_decision.decide([scope(used=free + full)], REFUND, increase=10, now=NOON)
        assert decision.refusal is not None
        assert full[0].rule.pattern in ("*", "stripe.refunds.*")


@pytest.mark.parametrize(
    ("allow", "parent", "named"),
    [
        (("stripe.portal.create",), None, True),
        (("stripe.*.*",), None, False),
        (None, None, False),
        (None, 1, True),
        (("stripe.portal.create",), 1, True),
        (("stripe.*.*",), 1, False),
    ],
)
def test_standing_authority_must_be_named_exactly(allow, parent, named):
    """The outermost scope and every other allowlist must name the endpoint."""
    decision = policy_decision.decide(
        [scope(allow=allow, parent=parent)], PORTAL, increase=0, now=NOON
    )

    assert (decision.refusal is None) is named


def test_a_label_can_neither_end_the_line_nor_colour_the_terminal():
    """Unprintable characters of a label become replacement characters in every text."""
    nasty = scope(pk=2, uid="run_2", label="a\nb\x1b[2J")
    parent = scope(label="c\rd", revoked_at=NOON)
    tool = scope(pk=3, kind="tool", label="e\tf", expires_at=NOON)
    above = policy_decision.decide([nasty, parent], REFUND, increase=0, now=NOON).refusal
    inside = policy_decision.decide([nasty, tool], REFUND, increase=0, now=NOON).refusal

    assert str(above).startswith("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J: ")
    assert "the parent run 'c\N{REPLACEMENT CHARACTER}d' was" in str(above)
    assert "tool 'e\N{REPLACEMENT CHARACTER}f' expired" in str(inside)
    assert above.label == "a\nb\x1b[2J"
