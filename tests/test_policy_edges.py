"""Where are the edges of what may go out: the last micro, the last call, the last moment?"""

import pytest

from keybrake.policy import decision as policy_decision
from tests.test_policy_words import BOSS, NOON, PORTAL, REFUND, because, scope, used

# In report mode only somebody's word to stop, and a credential that goes astray, bind.
BINDING = (
    "host_not_allowed",
    "header_override",
    "invalid_idempotency_key",
    "credential_unavailable",
)


@pytest.mark.parametrize("reason", BINDING)
def test_what_may_never_be_sent_binds_in_every_mode(reason):
    """It is refused in report mode, too, in the words of the first scope that looks."""
    chain = [scope(mode="report"), scope(**BOSS, pk=2, mode="report")]
    decision = policy_decision.decide(chain, because(reason), increase=0, now=NOON)

    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.scope) == (reason, "run")
    assert decision.would_refuse is None


def test_the_first_objection_of_a_chain_that_reports_is_the_one_that_is_noted():
    """What an outer scope would have said later does not replace it."""
    chain = [scope(mode="report", max_calls=0), scope(**BOSS, pk=2, mode="report", cap=0)]
    decision = policy_decision.decide(chain, REFUND, increase=1, now=NOON)

    assert decision.refusal is None
    assert decision.would_refuse.scope == "run max_calls"


def test_an_enforcing_scope_behind_one_that_reports_refuses():
    """Its refusal is the answer, and nothing is noted beside it."""
    chain = [scope(mode="report", max_calls=0), scope(**BOSS, pk=2, cap=0)]
    decision = policy_decision.decide(chain, REFUND, increase=1, now=NOON)

    assert decision.refusal.scope == "parent run_1 cap"
    assert decision.would_refuse is None


# Edges


def test_the_largest_amount_that_can_be_counted_goes_out():
    """Ten billion dollars to the micro; a call that names no value is not too large."""
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


def test_a_run_ends_at_its_moment_and_not_before():
    """One micro before it expires a run is alive."""
    for now, refused in ((NOON - 1, False), (NOON, True), (NOON + 1, True)):
        decision = policy_decision.decide([scope(expires_at=NOON)], REFUND, increase=0, now=now)
        assert (decision.refusal is not None) is refused


def test_the_last_call_goes_out_and_the_next_does_not():
    """A number of calls is exact, for a run and for a limit."""
    for calls, refused in ((1, False), (2, True)):
        for run in (
            scope(max_calls=2, calls=calls),
            scope(used=used("stripe.refunds.*", "hour", most=2, calls=calls)),
        ):
            decision = policy_decision.decide([run], REFUND, increase=0, now=NOON)
            assert (decision.refusal is not None) is refused


def test_a_limit_that_is_free_hides_no_limit_that_is_not():
    """Every limit of a scope is asked, in order, both for calls and for money."""
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
def test_standing_authority_is_named_exactly_where_there_is_a_list(allow, parent, named):
    """The outermost scope has to name it, and so has every other one that has a list at all."""
    decision = policy_decision.decide(
        [scope(allow=allow, parent=parent)], PORTAL, increase=0, now=NOON
    )

    assert (decision.refusal is None) is named


def test_a_label_can_neither_end_the_line_nor_colour_the_terminal():
    """What cannot be printed is shown as a replacement character, wherever a label stands."""
    nasty = scope(pk=2, uid="run_2", label="a\nb\x1b[2J")
    parent = scope(label="c\rd", revoked_at=NOON)
    tool = scope(pk=3, kind="tool", label="e\tf", expires_at=NOON)
    above = policy_decision.decide([nasty, parent], REFUND, increase=0, now=NOON).refusal
    inside = policy_decision.decide([nasty, tool], REFUND, increase=0, now=NOON).refusal

    assert str(above).startswith("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J: ")
    assert "the parent run 'c\N{REPLACEMENT CHARACTER}d' was" in str(above)
    assert "tool 'e\N{REPLACEMENT CHARACTER}f' expired" in str(inside)
    assert above.label == "a\nb\x1b[2J"
