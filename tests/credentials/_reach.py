"""Collects the text that an error could leak, for tests about secrets."""

import traceback
from pathlib import Path


def in_reach(error: BaseException) -> str:
    """Return an error's text, and its traceback with locals, without the frames of these tests."""
    # A cause or context would keep its own frames, even if it is not shown.
    assert error.__cause__ is error.__context__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    here = Path(__file__).parent
    ours = [frame.f_locals for frame in frames if Path(frame.f_code.co_filename).parent != here]
    assert ours
    return f"{error.args} {ours}"
