"""Run the fake Resend."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from keybrake.testing.fake import FakeVendor
from keybrake.testing.fake_resend import routes
from keybrake.testing.fake_resend.errors import ResendFailure, of_reason, unauthorized
from keybrake.testing.fake_resend.store import Ask, Store
from keybrake.testing.faults import Fault
from keybrake.testing.server import Request, Response
from keybrake.testing.vendor import Answer

_KEY_LIVES_S: Final = 24 * 60 * 60
_LONGEST_KEY: Final = 256


class FakeResend(FakeVendor):
    """
    Run a fake Resend on loopback that sends no mail. Its journal counts recipients.

    Args:
        port: The port to listen on; 0 picks a free port.
        journal_path: A file to also write the journal to, one line of JSON per request.
        latency: Seconds to wait before every answer.
        faults: Faults, each of which strikes the first request that matches it.
        clock: A function that returns the time in seconds; idempotency keys expire after 24 hours.

    """

    def __init__(
        self,
        port: int = 0,
        journal_path: str | Path | None = None,
        latency: float = 0.0,
        faults: Iterable[Fault] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            _Resend(clock), port=port, journal_path=journal_path, latency=latency, faults=faults
        )

    def _carry_out(
        self, request: Request, fault: Fault | None, key: tuple[Hashable, str] | None
    ) -> Answer:
        answer = self._vendor.answer(request)
        # Store the answer before a fault changes it: Resend replays only successes, so a retry
        # after a 500 on a sent email gets the original answer.
        if key is not None and answer.began:
            self._keys.keep(key[0], answer.response)
        return self._with_fault(request, answer, fault)


class _Resend:
    """See ``keybrake.testing.vendor.Vendor``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._store = Store()
        self._clock = clock
        self._lock = threading.Lock()
        # When each key first got an answer, and how often the key has expired so far.
        self._kept_at: dict[Hashable, float] = {}
        self._expiries: dict[Hashable, int] = {}

    def params(self, request: Request) -> Mapping[str, Any]:
        """See ``Vendor.params``; the list of a batch is returned under the name ``batch``."""
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {"batch": body}

    def credential(self, request: Request) -> str:
        """See ``Vendor.credential``."""
        return request.headers.get("authorization", "").partition(" ")[2].strip()

    def idempotency(self, request: Request) -> tuple[Hashable, str] | None:
        """See ``Vendor.idempotency``."""
        name = self._key_name(request)
        if name is None:
            return None
        with self._lock:
            kept = self._kept_at.get(name)
            if kept is not None and self._clock() - kept >= _KEY_LIVES_S:
                del self._kept_at[name]
                self._expiries[name] = self._expiries.get(name, 0) + 1
            expiries = self._expiries.get(name, 0)
        params = json.dumps(self.params(request), sort_keys=True)
        return (name, expiries), f"{request.method} {request.path} {params}"

    def answer(self, request: Request) -> Answer:
        """See ``Vendor.answer``."""
        try:
            answer = self._answer(request)
        except ResendFailure as failure:
            return Answer(Response.of_json(failure.status, failure.body))
        name = self._key_name(request)
        if name is not None:
            with self._lock:
                self._kept_at.setdefault(name, self._clock())
        return answer

    def failure(self, request: Request, reason: str) -> Response:
        """See ``Vendor.failure``."""
        del request
        failure = of_reason(reason)
        return Response.of_json(failure.status, failure.body)

    def replay(self, request: Request, stored: Response) -> Response:
        """See ``Vendor.replay``."""
        del request
        return replace(stored, headers={**stored.headers, "idempotent-replayed": "true"})

    def _answer(self, request: Request) -> Answer:
        if not self._is_known(request):
            raise unauthorized(given=bool(self.credential(request)))
        if len(request.headers.get("idempotency-key", "")) > _LONGEST_KEY:
            message = f"An idempotency key has 1 to {_LONGEST_KEY} characters."
            raise ResendFailure(name="invalid_idempotency_key", message=message, status=400)
        endpoint, ids = routes.find(request.method, request.path)
        outcome = endpoint(self._store, Ask(_decoded(request), request.headers, ids))
        body = outcome.body if isinstance(outcome.body, dict) else {}
        return Answer(
            Response.of_json(outcome.status, outcome.body),
            began=True,
            move=outcome.move,
            object_id=body.get("id"),
            status=body.get("status"),
        )

    def _key_name(self, request: Request) -> Hashable | None:
        name = request.headers.get("idempotency-key")
        if request.method != "POST" or not name or not self._is_known(request):
            return None
        if not routes.KEYED.fullmatch(request.path) or len(name) > _LONGEST_KEY:
            return None
        # Use a digest, so that memory dumps and tracebacks do not show the API key.
        return hashlib.sha256(self.credential(request).encode()).hexdigest(), name

    def _is_known(self, request: Request) -> bool:
        return self.credential(request).startswith("re_")


def _decoded(request: Request) -> Any:
    try:
        return json.loads(request.body or b"{}")
    except ValueError as error:
        message = f"The request body cannot be read: {error}"
        raise ResendFailure(name="validation_error", message=message, status=400) from error
