"""A plugin of pytest that puts the guard under a suite that knows nothing of it."""

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

import keybrake


def pytest_configure() -> None:
    """Put the hooks in before the suite imports anything."""
    keybrake.install()


@pytest.fixture(autouse=True)
def _run_of_its_own() -> Iterator[None]:
    """Put a run around each test, if asked; its policy refuses nothing that can be let go."""
    in_a_run = os.environ["KEYBRAKE_SUITE"] == "run"
    with keybrake.run("suite", cap=None, mode="report") if in_a_run else nullcontext():
        yield
