"""Serve HTTP on loopback, and reset, hang or truncate an answer on request."""

import contextlib
import enum
import http.server
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

_NO_ANSWER_LINGER = struct.pack("ii", 1, 0)
_STOP_PATIENCE_S = 2.0


class Wire(enum.Enum):
    """The way in which an answer reaches the client."""

    SEND = "send"
    RESET = "reset"
    HANG = "hang"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it arrived, with header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, and the way in which it reaches the client."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = Wire.SEND
    hang: float = 0.0

    @classmethod
    def of_json(
        cls, status: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> "Response":
        """Return an answer whose body is *body* as JSON."""
        content = {"Content-Type": "application/json", **(headers or {})}
        return cls(status, json.dumps(body, indent=1).encode(), content)


Handle = Callable[[Request], Response]


class LoopbackServer:
    """
    Serve *handle* on 127.0.0.1 until ``stop`` is called, with one thread per connection.

    ``stop`` sets ``stopping`` first, so that threads that delay an answer wake up.
    """

    def __init__(self, handle: Handle, port: int = 0) -> None:
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), handle, self.stopping)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-vendor", daemon=True
        )

    def start(self) -> None:
        """Start accepting connections."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting connections, close the open ones, and wait for their threads."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.break_off()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], handle: Handle, stopping: threading.Event) -> None:
        self.handle_vendor = handle
        self.stopping = stopping
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks up the name of this host, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        if _is_reset(request):
            # The default shuts the connection down with a FIN first; a reset must not send one.
            self.close_request(request)
        else:
            super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Tests break connections on purpose. Any other exception is a bug of the fake: show it.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def break_off(self) -> None:
        """Shut down the connections that clients keep alive, and wait until they are closed."""
        deadline = time.monotonic() + _STOP_PATIENCE_S
        with self._changed:
            for connection in self._open:
                _shut(connection)
            while self._open and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())


class _Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self._read_body())
        self._send(self.server.handle_vendor(request))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(iter(self._read_chunk, b""))
        return self._read_exactly(int(self.headers.get("Content-Length") or 0))

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
        chunk = self._read_exactly(size)
        self._read_exactly(2)
        return chunk

    def _read_exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            # The client died while it was sending: the request is incomplete, so do not handle it.
            raise ConnectionAbortedError
        return data

    def _send(self, response: Response) -> None:
        if response.wire is Wire.HANG:
            self.server.stopping.wait(response.hang)
        if response.wire in {Wire.HANG, Wire.RESET}:
            self.close_connection = True
            if response.wire is Wire.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_ANSWER_LINGER)
            return
        # Send head and body at once: a second packet could wait for the first acknowledgement.
        self.wfile.write(self._head(response) + self._body(response))

    def _head(self, response: Response) -> bytes:
        missing = 64 if response.wire is Wire.TRUNCATE else 0
        self.close_connection = self.close_connection or bool(missing)
        headers = {**response.headers, "Content-Length": str(len(response.body) + missing)}
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _body(self, response: Response) -> bytes:
        return b"" if self.command == "HEAD" else response.body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: the journal already records every request."""


def _is_reset(connection: socket.socket) -> bool:
    size = len(_NO_ANSWER_LINGER)
    linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, size)
    return linger == _NO_ANSWER_LINGER


def _shut(connection: socket.socket) -> None:
    # An error means that the connection is closed already.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
