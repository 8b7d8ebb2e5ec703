"""Handle requests the way all fake vendors do: faults, idempotency keys and the journal."""

import threading
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from keybrake.testing import admin
from keybrake.testing.faults import BEFORE, CHAOS, Fault, FaultKind, FaultPlan
from keybrake.testing.idempotency import IdempotencyKeys, Seen
from keybrake.testing.journal import Journal
from keybrake.testing.server import LoopbackServer, Request, Response, Wire
from keybrake.testing.vendor import Answer, Vendor

_HTML: Final = b"<!DOCTYPE html><html><body><h1>Back in a moment</h1></body></html>\n"
_KEY_PREFIXES: Final = ("sk_", "rk_", "re_", "kb_")
# The failure that the client sees for a fault that strikes before the vendor acts.
_FAILURES: Final = {
    "error_500_before": "server_error",
    "rate_limit": "rate_limited",
    "conflict": "key_in_use",
}


class FakeVendor:
    """
    Run a stateful fake vendor on loopback, with a journal and with faults on request.

    Attributes:
        journal: The requests that the vendor received, and the money that each moved.
        latency: Seconds to wait before every answer.

    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        port: int = 0,
        journal_path: str | Path | None = None,
        latency: float = 0.0,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.journal = Journal(journal_path)
        self.latency = latency
        self._vendor = vendor
        self._port = port
        self._faults = FaultPlan(faults)
        self._keys = IdempotencyKeys()
        self._lock = threading.Lock()
        self._server: LoopbackServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port the fake listens on; a restarted fake keeps its port."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL of the fake, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start to listen; do nothing if the fake listens already."""
        if self._server is None:
            self._server = LoopbackServer(self._handle, self._port)
            self._port = self._server.port
            self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening and close open connections; keep the objects and the journal."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self.journal.close()

    def inject(self, fault: Fault, times: int | None = 1) -> None:
        """Apply *fault* to the next *times* requests that match it; None: to all of them."""
        self._faults.add(fault, times)

    def chaos(
        self,
        rate: float = 0.15,
        *,
        seed: int = 0,
        kinds: Iterable[FaultKind] = CHAOS,
        hang: float = 0.5,
    ) -> None:
        """Make each POST fail with probability *rate*; 0 ends the chaos."""
        self._faults.chaos(rate, seed=seed, kinds=kinds, hang=hang)

    def clear_faults(self) -> None:
        """Drop all pending faults, and end the chaos."""
        self._faults.clear()

    def _handle(self, request: Request) -> Response:
        if request.path.startswith(admin.PREFIX):
            return admin.answer(request, self.journal, self.inject, self.chaos)
        fault = self._faults.take(request)
        key = self._vendor.idempotency(request)
        # Decide and write the journal under one lock, so that the journal keeps the order of events.
        with self._lock:
            response, opened = self._decide(request, fault, key)
        self._wait(self.latency + (fault.delay if fault and fault.kind == "slow" else 0.0))
        if opened and key is not None:
            with self._lock:
                self._keys.finish(key[0])
        return response

    def _decide(
        self, request: Request, fault: Fault | None, key: tuple[Hashable, str] | None
    ) -> tuple[Response, bool]:
        if fault is not None and fault.kind in BEFORE:
            return self._write(request, self._refused(request, fault), fault), False
        seen = self._keys.begin(*key) if key is not None else None
        if isinstance(seen, Seen):
            reason = "key_in_use" if seen is Seen.IN_FLIGHT else "key_reused"
            answer = Answer(self._vendor.failure(request, reason))
            return self._write(request, self._with_fault(request, answer, fault), fault), False
        if seen is not None:
            answer = Answer(self._vendor.replay(request, seen))
            answer = self._with_fault(request, answer, fault)
            return self._write(request, answer, fault, replayed=True), False
        answer = self._carry_out(request, fault, key)
        return self._write(request, answer, fault), key is not None

    def _carry_out(
        self, request: Request, fault: Fault | None, key: tuple[Hashable, str] | None
    ) -> Answer:
        answer = self._vendor.answer(request)
        if fault is not None and fault.kind == "error_500_after":
            answer = self._with_fault(request, answer, fault)
        if key is not None and answer.began:
            self._keys.keep(key[0], answer.response)
        return self._with_fault(request, answer, fault)

    def _refused(self, request: Request, fault: Fault) -> Answer:
        match fault.kind:
            case "reset_before":
                return Answer(Response(0, wire=Wire.RESET))
            case "redirect":
                return Answer(Response(307, headers={"Location": fault.location}))
            case kind:
                return Answer(self._vendor.failure(request, _FAILURES[kind]))

    def _with_fault(self, request: Request, answer: Answer, fault: Fault | None) -> Answer:
        """Return *answer* as the client receives it once *fault* has struck."""
        response = answer.response
        match fault.kind if fault else None:
            case "error_500_after":
                response = self._vendor.failure(request, "server_error")
            case "timeout_after":
                response = replace(response, wire=Wire.HANG, hang=fault.hang if fault else 0.0)
            case "reset_after":
                response = replace(response, wire=Wire.RESET)
            case "truncate":
                response = replace(response, wire=Wire.TRUNCATE)
            case "garbage":
                response = Response(200, _HTML, {"Content-Type": "text/html"})
        return replace(answer, response=response)

    def _write(
        self, request: Request, answer: Answer, fault: Fault | None, *, replayed: bool = False
    ) -> Response:
        response, move = answer.response, answer.move
        answered = response.wire in {Wire.SEND, Wire.TRUNCATE}
        self.journal.write(
            method=request.method,
            path=request.path,
            idempotency_key=request.headers.get("idempotency-key"),
            params=self._vendor.params(request),
            moved=move.moved if move else False,
            kind=move.kind if move else None,
            object_id=move.object_id if move else answer.object_id,
            amount=move.amount if move else None,
            currency=move.currency if move else None,
            standing=move.standing if move else None,
            status=move.status if move else answer.status,
            http_status=response.status if answered else None,
            replayed=replayed,
            fault=fault.kind if fault else None,
            key_prefix=_key_prefix(self._vendor.credential(request)),
            request_id=response.headers.get("Request-Id"),
        )
        return response

    def _wait(self, seconds: float) -> None:
        server = self._server
        if seconds > 0 and server is not None:
            server.stopping.wait(seconds)


def _key_prefix(credential: str) -> str:
    for prefix in _KEY_PREFIXES:
        if credential.startswith(prefix):
            return prefix
    return "other" if credential else "none"
