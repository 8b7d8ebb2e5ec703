"""On what it was measured: nothing that names the machine or its folders."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path


def described(folder: Path) -> str:
    """Return a line about the machine, and the file system that *folder* is on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = (
        f"{datetime.now(UTC):%Y-%m-%d}",
        f"{_processor()}, {cores} cores",
        f"{platform.system()} {platform.release()}",
        _file_system(folder),
        f"{platform.python_implementation()} {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
    )
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the mount that is nearest above the folder."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return "file system not known"
    above = {str(folder.resolve()), *map(str, folder.resolve().parents)}
    found = [(len(where), kind) for _, where, kind, *_ in map(str.split, mounts) if where in above]
    return max(found)[1] if found else "file system not known"
