"""
Does the guard hold under every version of the SDKs it supports?

``python -m tests.compat.run [--here] [package[==version]…]``: everything, one package, or one version of
it. Each has an environment of its own, with the dependencies that its version asks for; with ``--here``
only the SDK itself is another, before that of this environment on the path, which takes a fifth of the time.
"""

import os
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
    here = "--here" in asked
    chosen = _chosen([word for word in asked if word != "--here"])
    # Two at a time: one waits for the package index while the other computes.
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda one: check(*one, here=here), chosen))
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


def check(row: Row, version: str, *, here: bool) -> bool:
    """Make the environment, run the check in it, and say how it went."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keybrake-compat-") as folder:
        make = _beside if here else _environment
        python, environ = make(Path(folder), row, version)
        ask = f"from importlib.metadata import version; print(version({row.package!r}))"
        found = _output(*python, "-c", ask, env=environ)
        # Older versions of an SDK warn about themselves; that is not what is asked here.
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        ran = subprocess.run(
            [
                *(*python, "-m", "pytest", str(Path(__file__).with_name(row.check)), "-q"),
                *("-c", str(Path(folder) / "pytest.ini"), "-p", "no:cacheprovider"),
                *("--noconftest", "--import-mode=importlib", "--rootdir", folder),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environ,
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


Place = tuple[tuple[str, ...], dict[str, str]]
"""An interpreter, and the environment variables to run it with."""


def _environment(folder: Path, row: Row, version: str) -> Place:
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    environ = dict(os.environ)
    _output(*_pip(python), _wanted(row, version), *row.also, "pytest", str(ROOT), env=environ)
    return (python, "-I"), environ


def _beside(folder: Path, row: Row, version: str) -> Place:
    target = str(folder / "sdk")
    pip = (*_pip(sys.executable), "--no-deps", "--target", target)
    _output(*pip, _wanted(row, version), env=dict(os.environ))
    return (sys.executable,), {**os.environ, "PYTHONPATH": target}


def _pip(python: str) -> tuple[str, ...]:
    return (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")


def _wanted(row: Row, version: str) -> str:
    return f"{row.package}{version}" if version.startswith("<") else f"{row.package}=={version}"


def _output(*command: str, env: dict[str, str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
