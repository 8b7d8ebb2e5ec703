"""Is nothing lost by a kill at any system call that anybody else can see, and would it show if it were?"""

import pytest

from tests.faults import crash_points
from tests.faults._engines import BROKEN

pytestmark = pytest.mark.system

# Less than all acts together had when this was written, 170, by a good margin.
_FEWEST = 120


@pytest.mark.timeout(600)
def test_a_kill_at_any_system_call_loses_nothing():
    """Wherever a process dies, charges have rows, totals are sums, and another goes on to the cap."""
    with crash_points.trial() as trial:
        points = [
            it for act, where in crash_points.SHORT.items() for it in trial.points(act, where)
        ]
    struck = crash_points.strike_all(points)

    print(f"{len(struck)} points, {sum(it.killed for it in struck)} killed")
    assert [it for it in struck if it.violations] == []
    assert sum(it.killed for it in struck) >= _FEWEST


@pytest.mark.parametrize("engine", BROKEN)
def test_a_broken_engine_is_caught(engine):
    """An engine that loses something in a crash is found out at one point or another."""
    with crash_points.trial(engine) as trial:
        points = trial.points("call", crash_points.SEEN)

        assert any(trial.strike(point).violations for point in points)
