"""
Does the guard hold under every version of the SDKs it supports?

``python -m tests.compat.run [package[==version]…]``: everything, one package, or one version of it.
"""

import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Row(NamedTuple):
    """An SDK, the versions of it to check, and what to check each with."""

    package: str
    versions: tuple[str, ...]
    check: str
    also: tuple[str, ...] = ()


ROWS = (
    Row("stripe", ("8.11.1", "10.12.1", "12.5.2", "14.4.2", "<17"), "guard_check.py", ("httpx",)),
    Row("twilio", ("8.13.0", "9.0.5", "<10"), "twilio_check.py"),
    Row("resend", ("2.0.0", "2.21.0", "2.35.0", "<3"), "resend_check.py", ("httpx",)),
)


def main(asked: list[str]) -> int:
    """Check each version in an environment of its own; print a line for each."""
    # Two at a time: one waits for the package index while the other computes.
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda one: check(*one), _chosen(asked)))
    print(f"{sum(ended)} of {len(ended)} versions passed")
    return 0 if ended and all(ended) else 1


def _chosen(asked: list[str]) -> list[tuple[Row, str]]:
    every = [(row, version) for row in ROWS for version in row.versions]
    if not asked:
        return every
    named = [one.partition("==")[::2] for one in asked]
    return [
        (row, version)
        for package, wanted in named
        for row in ROWS
        if row.package == package
        for version in ([wanted] if wanted else row.versions)
    ]


def check(row: Row, version: str) -> bool:
    """Make the environment, run the check in it, and say how it went."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keybrake-compat-") as folder:
        python = _environment(Path(folder), row, version)
        ask = f"from importlib.metadata import version; print(version({row.package!r}))"
        found = _output(python, "-c", ask)
        ran = subprocess.run(
            [
                *(python, "-I", "-m", "pytest", str(Path(__file__).with_name(row.check)), "-q"),
                *("-c", str(Path(folder) / "pytest.ini"), "-p", "no:cacheprovider"),
                *("--noconftest", "--import-mode=importlib", "--rootdir", folder),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
    summary = ran.stdout.strip().splitlines()[-1:] or [ran.stderr.strip()[-200:]]
    word = "passed" if ran.returncode == 0 else "FAILED"
    took = time.monotonic() - started
    print(f"{row.package} {found}: {word} ({summary[0]}; {took:.0f} s in all)")
    if ran.returncode != 0:
        failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        print(
            "\n".join(f"    {line}" for line in failed or [ran.stdout[-2000:], ran.stderr[-500:]])
        )
    sys.stdout.flush()
    return ran.returncode == 0


def _environment(folder: Path, row: Row, version: str) -> str:
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    wanted = f"{row.package}{version}" if version.startswith("<") else f"{row.package}=={version}"
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    _output(*pip, wanted, *row.also, "pytest", str(ROOT))
    # Older versions of an SDK warn about themselves; that is not what is asked here.
    (folder / "pytest.ini").write_text("[pytest]\n")
    return python


def _output(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
