"""The stub Stripe on loopback: requests take their time, and some answers are lost on the way."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# Importing them is what makes the routes known.
from tests.model.money import customers, invoices, payments, subscriptions  # noqa: F401
from tests.model.money.routes import answer, error, read_form
from tests.model.money.world import Object, World

# Longer than the client of a seed with such answers waits.
HANGS_S = 0.6
WAITS_S = 0.3


class Vendor:
    """
    What one seed says about how the stub behaves.

    Attributes:
        world: Its objects and its account.
        slowness_s: The most that a request takes before it is carried out, and again before it is
            answered.
        loses: How often, of ten requests that change something, the answer is lost or is an error.
    """

    def __init__(self, world: World, seed: int, slowness_s: float = 0.0, loses: int = 0) -> None:
        self.world = world
        self.slowness_s = slowness_s
        self.loses = loses
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._answered: dict[tuple[str, str], tuple[int, Object]] = {}

    def pause(self) -> float:
        """Return how long a request takes now; half of them take no time of their own."""
        with self._lock:
            return max(0.0, self._dice.uniform(-self.slowness_s, self.slowness_s))

    def fault(self, method: str) -> str | None:
        """Return what becomes of an answer: it may be lost, late, or say that Stripe failed."""
        with self._lock:
            if method == "GET" or self._dice.random() * 10 >= self.loses:
                return None
            return self._dice.choice(("500 before", "500 after", "reset", "hang"))

    def copy(self) -> World:
        """Return a world of its own that stands as this vendor's stands now."""
        with self._lock:
            return self.world.copy()

    def carry_out(self, method: str, path: str, form: Object, key: str) -> tuple[int, Object, bool]:
        """Return status and body, and whether it is the answer to an earlier request of that key."""
        with self._lock:
            if key and (earlier := self._answered.get((path, key))):
                return *earlier, True
            status, body = answer(self.world, method, path, form)
            if key:
                self._answered[path, key] = status, body
            return status, body, False


class Server(ThreadingHTTPServer):
    """A server that one vendor after another may stand behind."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    vendor: Vendor

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gave up waiting is a part of the game."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread of its own."""
    with Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Server

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        vendor, place = self.server.vendor, urlsplit(self.path)
        form = self._form(place.query)
        fault = vendor.fault(self.command)
        time.sleep(vendor.pause())
        if fault == "500 before":
            self._answer(500, error("api_error", "nothing was done"), replayed=False)
            return
        key = self.headers.get("Idempotency-Key", "")
        ended = vendor.carry_out(self.command, place.path, form, key)
        time.sleep(HANGS_S if fault == "hang" else vendor.pause())
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "500 after":
            self._answer(500, error("api_error", "it was done"), replayed=False)
        else:
            self._answer(*ended)

    def _form(self, query: str) -> Object:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if text and "json" in self.headers.get("Content-Type", ""):
            return json.loads(text)
        return read_form(text or query)

    def _answer(self, status: int, body: Object, replayed: bool) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Request-Id", "req_1")
        if replayed:
            self.send_header("Idempotent-Replayed", "true")
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 -- http.server's names
