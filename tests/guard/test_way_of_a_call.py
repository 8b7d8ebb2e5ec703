"""How long is the way from an SDK's function to the decision, and through how many files?"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import stripe

import keybrake

HOUSE = f"{Path(keybrake.__file__).parent}{os.sep}"


class Way(NamedTuple):
    """The frames between the SDK and ``decide()``, nearest first, and the files of the whole call."""

    frames: list[str]
    files: set[str]


def way_of(call: Callable[[], Any]) -> Way:
    """Return the way that *call* takes through keybrake."""
    way = Way([], set())

    def look(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(HOUSE) or "testing" in path:
            return
        way.files.add(path.removeprefix(HOUSE))
        if frame.f_code.co_name == "decide" and not way.frames:
            above = frame.f_back
            while above is not None:
                if above.f_code.co_filename.startswith(HOUSE):
                    name = Path(above.f_code.co_filename).stem
                    way.frames.append(f"{name}.{above.f_code.co_qualname}")
                above = above.f_back

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return way


def pay() -> None:
    """Make one call that costs a dollar."""
    stripe.PaymentIntent.create(amount=100, currency="usd")


def test_seven_frames_lie_between_the_sdk_and_the_decision(fake, ledger_url):
    """Each frame is a method that "go to definition" finds; none is a lambda or a partial."""
    with keybrake.run("agent", cap=10):
        pay()
        way = way_of(pay)

    assert len(way.frames) <= 7, way.frames
    assert not [name for name in way.frames if "lambda" in name]
    assert way.frames[-1] == "door.SDKDoor.hook"


def test_a_call_passes_few_files(fake, ledger_url):
    """A reader who follows one call opens at most this many files."""
    with keybrake.run("agent", cap=10):
        pay()
        way = way_of(pay)

    assert len(way.files) <= 45, sorted(way.files)
