"""Does a web server that opens its ledger, forks and patches only then serve its greenlets?"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.test_frozen_clock import held

REQUESTS = 12


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


@pytest.fixture
def ask(ledger_url, tmp_path) -> Iterator[Callable[[str], str]]:
    """Start gunicorn with one worker of greenlets; return a function that asks it."""
    port, log = free_port(), (tmp_path / "log").open("w+")
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "-k", "gevent"]
    options = ["-w", "1", "-b", f"127.0.0.1:{port}", "tests.faults._preloaded:app"]
    env = {**os.environ, "KEYBRAKE_LEDGER": ledger_url}
    server = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=env)

    def asked(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            said: bytes = answer.read()
            return said.decode()

    try:
        until = time.monotonic() + 40
        while True:
            try:
                asked("/")
                break
            except urllib.error.URLError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.1)
        yield asked
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        log.close()


def test_every_request_is_served(ask):
    """Many at once, each with a run of its own."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        assert list(pool.map(ask, ["/run"] * 3 * REQUESTS)) == ["ok"] * 3 * REQUESTS


def test_requests_that_wait_for_the_ledger_hold_up_no_other(ask, tmp_path):
    """Another process keeps the lock: they are refused in time, and the rest is answered meanwhile."""
    with held(tmp_path / "ledger.db"), ThreadPoolExecutor(REQUESTS) as pool:
        waiting = [pool.submit(ask, "/run") for _ in range(REQUESTS)]
        time.sleep(0.3)
        began = time.monotonic()
        assert ask("/") == "ok"
        assert time.monotonic() - began < 1.5
        assert [it.result(30) for it in waiting] == ["refused"] * REQUESTS
    assert ask("/run") == "ok"
