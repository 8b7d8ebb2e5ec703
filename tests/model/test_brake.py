"""Does the model of the brake hold in every state, and is a broken one found out?"""

import pytest

from tests.model.run_spin import BROKEN, SHORT, check

pytestmark = pytest.mark.system


@pytest.mark.parametrize("options", SHORT.values(), ids=SHORT)
def test_no_order_of_steps_and_crashes_breaks_a_promise(options):
    """Spin visits every state of two processes with a crash at any step, and finds no error."""
    said = check(options)

    assert (said.errors, said.wrong, said.complete) == (0, None, True)
    assert said.states > 10_000


@pytest.mark.parametrize(("options", "word"), BROKEN.items(), ids=BROKEN)
def test_a_broken_brake_is_found_out(options, word):
    """Spin finds the history in which a brake that is broken on purpose fails, and how it fails."""
    said = check(options)

    assert said.errors == 1
    assert word in (said.wrong or "")
