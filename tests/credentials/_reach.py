"""What whoever has an error in hand can get at."""

import traceback
from pathlib import Path


def in_reach(error: BaseException) -> str:
    """Return what it says and what a traceback with locals shows of it; none of these tests' own frames."""
    # An error behind it has frames of its own, and keeps them whether it is shown or not.
    assert error.__cause__ is error.__context__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    here = Path(__file__).parent
    ours = [frame.f_locals for frame in frames if Path(frame.f_code.co_filename).parent != here]
    assert ours
    return f"{error.args} {ours}"
