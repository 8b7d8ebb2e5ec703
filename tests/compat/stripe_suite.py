"""
Does the Stripe SDK's own test suite pass under the guard as it passes without?

``python -m tests.compat.stripe_suite [version]``: the suite comes out of the source package of that
version, by default the one that is installed here, and runs in an environment of its own against a
server that answers anything. It runs three times: without keybrake, with its hooks and no run, and
in a run in report mode. Each test that fails only under the guard is printed. In a run, those that
name the idempotency key of the SDK may: keybrake's stands in its place. Tests that need the answers of
stripe-mock fail all three times, and say nothing.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NEEDED = ("aiohttp", "anyio", "httpx", "pytest", "pytest-mock", "requests", "trio")
_ANSWER = {"id": "obj_123", "object": "list", "data": [], "has_more": False, "url": "/v1/things"}


class StandIn(BaseHTTPRequestHandler):
    """Answers every request with the same object."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps(_ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- named by http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- named by http.server
        """Write nothing."""


class Server(ThreadingHTTPServer):
    """Says nothing about a client that hangs up: the suite's clients do."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Do nothing."""


def main(wanted: str) -> int:
    """Run the suite three times and print how the guard changed it."""
    with (
        tempfile.TemporaryDirectory(prefix="keybrake-suite-") as name,
        Server(("127.0.0.1", 0), StandIn) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = Path(name)
        python, suite = _environment(folder, wanted), _suite(folder, wanted)
        port = server.server_address[1]
        free = _failures(python, suite, port, None)
        hooks = _failures(python, suite, port, "hooks")
        run = _failures(python, suite, port, "run")
        server.shutdown()
    _show("with the hooks and no run", hooks - free)
    _show("in a run", run - free)
    return 1 if hooks - free or {one for one in run - free if "idempotency" not in one} else 0


def _environment(folder: Path, wanted: str) -> str:
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    _do(*pip, f"stripe=={wanted}", *_NEEDED, str(ROOT))
    return python


def _suite(folder: Path, wanted: str) -> Path:
    """Return the folder with the tests; the SDK's own files beside them are taken away."""
    pip = (sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check")
    _do(*pip, "--no-deps", "--no-binary", "stripe", "-d", str(folder), f"stripe=={wanted}")
    with tarfile.open(folder / f"stripe-{wanted}.tar.gz") as source:
        source.extractall(folder, filter="data")
    suite = folder / f"stripe-{wanted}"
    (suite / "stripe").rename(folder / "not-this-one")
    (suite / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    return suite


def _failures(python: str, suite: Path, port: int, guard: str | None) -> set[str]:
    """Run the suite; return the tests that did not pass."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KEYBRAKE_")},
        "STRIPE_MOCK_HOST": "127.0.0.1",
        "STRIPE_MOCK_PORT": str(port),
        "PYTHONPATH": str(Path(__file__).parent),
        "KEYBRAKE_SUITE": guard or "",
        "KEYBRAKE_LEDGER": f"sqlite:///{suite / f'{guard}.db'}",
    }
    plugin = ("-p", "stripe_plugin") if guard else ()
    ran = subprocess.run(
        [python, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *plugin],
        capture_output=True,
        text=True,
        cwd=suite,
        env=environ,
        check=False,
    )
    if ran.returncode not in (0, 1):
        sys.exit(f"the suite did not run:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    print(f"{guard or 'without keybrake'}: {ran.stdout.strip().splitlines()[-1]}", flush=True)
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, flags=re.MULTILINE))


def _show(where: str, failed: set[str]) -> None:
    print(f"{len(failed)} more fail {where}")
    for one in sorted(failed):
        print(f"    {one}")


def _do(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else version("stripe")))
