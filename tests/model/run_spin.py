"""
What does Spin say of the model: every state of every configuration, and every broken variant.

``python -m tests.model.run_spin`` checks two processes in seconds; ``--full`` adds the large
configurations and three processes, which takes a quarter of an hour and 3 GB.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).with_name("brake.pml")

# Two processes, one call each, one crash at any step, is what the model is without options.
SHORT = {
    "two processes": "-DWITHOUT_FORK",
    "two processes, whatever is open is old": "-DWITHOUT_FORK -DLATE",
    "two processes, two reconcilers": "-DWITHOUT_FORK -DRECONCILERS=2",
    "two processes, without the lock of the file": "-DWITHOUT_FORK -DWITHOUT_LOCK",
}
FULL = {
    "two processes, two crashes, whatever is open is old": "-DWITHOUT_FORK -DLATE -DCRASHES=2",
    "two processes, two calls each, two crashes": "-DWITHOUT_FORK -DCALLS=2 -DCRASHES=2",
    "two processes, one forks": "",
    "three processes": "-DPROCESSES=3 -DWITHOUT_FORK",
    "three processes, two reconcilers": "-DPROCESSES=3 -DWITHOUT_FORK -DRECONCILERS=2",
}
# How each broken variant is found out: a word of the assertion, or of the verdict.
BROKEN = {
    "-DBROKEN_NO_TRANSACTION -DWITHOUT_REVOKE": "set_aside",
    "-DBROKEN_PARENT_FORGOTTEN -DWITHOUT_FORK -DCALLS=2": "set_aside",
    "-DBROKEN_STALE_REVOKE -DWITHOUT_FORK": "revoke_returned",
    "-DBROKEN_RECORD_AFTER -DWITHOUT_FORK": "used",
    "-DBROKEN_VOID_ON_ERROR -DWITHOUT_FORK": "moved",
    "-DBROKEN_RELEASE_ON_DEATH -DWITHOUT_FORK": "moved",
    "-DBROKEN_RESOLVE_TWICE -DWITHOUT_FORK -DRECONCILERS=2": "endings",
    "-DBROKEN_FORK_HOOK": "invalid end state",
    "-DBROKEN_FORK_DESCRIPTOR": "set_aside",  # its parent's death is never noticed
}


class Verdict(NamedTuple):
    """What Spin printed. *wrong*: what it found first, if anything."""

    states: int
    depth: int
    errors: int
    seconds: float
    wrong: str | None
    complete: bool


def check(options: str) -> Verdict:
    """Check the model exhaustively under *options*, and return the verdict."""
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        msg = "spin and gcc are needed: apt-get install spin gcc"
        raise FileNotFoundError(msg)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL, folder)
        # Spin and what it makes write beside the model.
        _run(folder, "spin", "-a", *options.split(), MODEL.name)
        _run(folder, "gcc", "-w", "-O2", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
        return _read(_run(folder, "./pan", "-m100000", "-w25"))


def _run(folder: str, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "Error:" in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _read(printed: str) -> Verdict:
    found = re.search(r"^pan:1: (.*) \(at depth", printed, re.MULTILINE)
    return Verdict(
        states=int(_number(r"(\d+) states, stored", printed)),
        depth=int(_number(r"depth reached (\d+)", printed)),
        errors=int(_number(r"errors: (\d+)", printed)),
        seconds=float(_number(r"elapsed time ([\d.]+)", printed)),
        wrong=found and found[1],
        complete="Search not completed" not in printed and "max search depth" not in printed,
    )


def _number(pattern: str, printed: str) -> str:
    found = re.search(pattern, printed)
    if found is None:
        raise RuntimeError(printed)
    return found[1]


def main(arguments: list[str]) -> int:
    """Check every configuration and print what came out; 1: something is not as it should be."""
    wrong = 0
    print("| processes | options | states | depth | errors | seconds |\n|---|---|--:|--:|--:|--:|")
    for name, options in {**SHORT, **(FULL if "--full" in arguments else {})}.items():
        said = check(options)
        print(
            f"| {name} | `{options}` | {said.states:,} | {said.depth} | {said.errors} "
            f"| {said.seconds:g} |",
            flush=True,
        )
        wrong += said.errors or not said.complete
    print("\n| broken on purpose | found after states | by |\n|---|--:|---|")
    for options, word in BROKEN.items():
        said = check(options)
        words = str(said.wrong).replace("|", "\\|")
        print(f"| `{options}` | {said.states:,} | {words} |", flush=True)
        wrong += word not in (said.wrong or "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
