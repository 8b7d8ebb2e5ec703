"""How often a call waits for the disk: the system calls that ``strace`` counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench._ledger import Ours

_CALLS = 200


def counted(path: Path) -> str:
    """Return a sentence on how many times 200 calls waited for the disk; or why it is not known."""
    strace = shutil.which("strace")
    if strace is None:
        return "How often a call waits for the disk was not counted: strace is not installed."
    before, after = (_syncs(strace, path, calls) for calls in (0, _CALLS))
    return (
        f"`strace -c -f -e trace=fsync,fdatasync`: {after - before} syncs for {_CALLS} calls at the "
        f"default durability, {(after - before) / _CALLS:.2f} a call. Those of opening are taken off."
    )


def _syncs(strace: str, path: Path, calls: int) -> int:
    counts = path.with_name(f"syncs-{calls}")
    traced = [strace, "-c", "-f", "-o", str(counts), "-e", "trace=fsync,fdatasync"]
    work = [sys.executable, "-m", "tests.bench._syncs", str(path.with_suffix(f".{calls}.db"))]
    subprocess.run([*traced, *work, str(calls)], check=True)
    lines = counts.read_text("utf-8")
    return sum(map(int, re.findall(r"^\s*\S+\s+\S+\s+\S+\s+(\d+) .*sync$", lines, re.MULTILINE)))


def _traced(path: Path, calls: int) -> None:
    ours = Ours(path, durability="power")
    for _ in range(calls):
        ours.call()
    ours.check()
    ours.close()


if __name__ == "__main__":
    _traced(Path(sys.argv[1]), int(sys.argv[2]))
