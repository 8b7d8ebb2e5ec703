"""Does the real engine keep its promises through seeded lives, and is a broken one found out?"""

from collections import Counter

import pytest

from tests.model._broken import BROKEN
from tests.model.simulate import live, main, many

LIVES = 50
# Longer than any of them has taken to be found; most take a dozen lives.
MOST = 3000
# What happens in lives, in the words they are told in.
WORDS = (
    *("is killed", "kills a process", "late arrival", "the clock is set", "somebody locks"),
    *("revoke", "pause", "resume", "reconcile", "at last", "500 after", "reset before"),
    *("CancelledError", "LedgerUnavailable", "CapExceeded", "CallLimitReached", "RunPaused"),
)
# The promise that each broken engine breaks, in the words of ``_invariants``.
PROMISES = {
    "stale-facts": "never over",
    "stops-are-cached": "stop means the next call",
    "windows-forget-what-is-reserved": "never over a window",
    "parents-are-forgotten": "every scope above counts it",
    "void-on-5xx": "what moved is not voided",
    "void-on-error": "what moved is not voided",
    "last-attempt-decides": "what moved is not voided",
    "record-after-the-call": "written down before it is sent",
    "release-on-death": "what moved is not voided",
    "ends-twice": "totals are sums",
    "time-runs-back": "ledger time never runs backwards",
    "any-answer-is-news": "more",
    "refusals-count-as-calls": "totals are sums",
}


@pytest.mark.parametrize("block", range(4))
def test_every_life_keeps_every_promise(block):
    """After each step of each life every invariant holds, and at the end the sums are the vendor's."""
    lives = list(many(range(block * LIVES, (block + 1) * LIVES)))

    assert [(one.seed, one.broken) for one in lives if one.broken] == []
    # A life in which nothing happens would keep any promise.
    calls = sum((one.calls for one in lives), Counter())
    assert all(calls[state] >= LIVES // 3 for state in ("settled", "voided", "refused"))
    assert sum(one.steps for one in lives) > 20 * LIVES
    told = "\n".join(line for one in lives for line in one.told)
    assert [word for word in WORDS if word not in told] == []


def test_a_seed_brings_the_same_life_back():
    """A life is told twice in the same words, so that one that fails can be looked into."""
    assert live(11).told == live(11).told
    assert live(11).told != live(12).told


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_engine_is_found_out(name):
    """Some life breaks just the promise that an engine broken in this way cannot keep."""
    found = (one.broken for one in many(range(MOST), name) if one.broken)

    assert any(PROMISES[name] in words for words in found)


def test_the_command_prints_rate_and_violations(capsys):
    """Lives and steps a minute are printed; a seed that broke a promise is named, and told alone."""
    assert main(["--count", "4", "--jobs", "1"]) == 0
    assert "4 lives from seed 0" in capsys.readouterr().out

    assert main(["--seed", "1", "--count", "1", "--broken", "void-on-error"]) == 3
    assert "seed 1: what moved is not voided" in capsys.readouterr().out

    assert main(["--seed", "1", "--broken", "void-on-error"]) == 3
    assert "wire POST /v1/payment_intents" in capsys.readouterr().out
