"""Does the guard hold under every stripe it supports? ``python -m tests.compat.run [versions…]``."""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

VERSIONS = ("8.11.1", "10.12.1", "12.5.2", "14.4.2", "<17")
ROOT = Path(__file__).parents[2]
CHECK = Path(__file__).with_name("guard_check.py")


def main(versions: list[str]) -> int:
    """Check each version in an environment of its own; print a line for each."""
    ended = [check(version) for version in versions or VERSIONS]
    print(f"{sum(ended)} of {len(ended)} versions passed")
    return 0 if all(ended) else 1


def check(version: str) -> bool:
    """Make the environment, run the check in it, and say how it went."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keybrake-compat-") as folder:
        python = _environment(Path(folder), version)
        found = _output(python, "-c", "import stripe; print(stripe.VERSION)")
        ran = subprocess.run(
            [
                *(python, "-I", "-m", "pytest", str(CHECK), "-q", "--noconftest"),
                *("-c", str(Path(folder) / "pytest.ini"), "-p", "no:cacheprovider"),
                *("--import-mode=importlib", "--rootdir", folder),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
    summary = ran.stdout.strip().splitlines()[-1:] or [ran.stderr.strip()[-200:]]
    word = "passed" if ran.returncode == 0 else "FAILED"
    print(f"stripe {found}: {word} ({summary[0]}; {time.monotonic() - started:.0f} s in all)")
    if ran.returncode != 0:
        failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        print(
            "\n".join(f"    {line}" for line in failed or [ran.stdout[-2000:], ran.stderr[-500:]])
        )
    sys.stdout.flush()
    return ran.returncode == 0


def _environment(folder: Path, version: str) -> str:
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    wanted = f"stripe{version}" if version.startswith("<") else f"stripe=={version}"
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    _output(*pip, wanted, "httpx", "pytest", str(ROOT))
    # Older versions of the SDK warn about themselves; that is not what is asked here.
    (folder / "pytest.ini").write_text("[pytest]\n")
    return python


def _output(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
