"""Run the fake Twilio."""

import base64
import binascii
import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from keybrake.testing.fake import FakeVendor
from keybrake.testing.fake_twilio import clients, routes, voice
from keybrake.testing.fake_twilio.errors import TwilioFailure, of_reason, unauthorized
from keybrake.testing.fake_twilio.outcome import Ask
from keybrake.testing.fake_twilio.store import Store
from keybrake.testing.faults import Fault
from keybrake.testing.server import Request, Response
from keybrake.testing.vendor import Answer

_ACCOUNT: Final = "AC" + "0" * 31 + "1"
_TOKEN: Final = "token_of_nobody"  # noqa: S105 -- a dummy, not a secret


class FakeTwilio(FakeVendor):
    """
    Run a fake Twilio on loopback that sends no messages and places no calls.

    Its journal counts in micro-USD. The journal has the final cost of an object at once; the
    answers show the price only later, as Twilio's do.

    Args:
        port: The port to listen on; 0 picks a free port.
        journal_path: A file to also write the journal to, one line of JSON per request.
        latency: Seconds to wait before every answer.
        faults: Faults, each of which strikes the first request that matches it.
        price_after: Seconds until a GET shows a price; None: not before ``finish`` or ``set_price``.

    Attributes:
        rates: The prices in micro-USD; tests may change them.
        account_sid: The SID of the account; its token is ``auth_token``.

    """

    account_sid = _ACCOUNT
    auth_token = _TOKEN

    def __init__(
        self,
        port: int = 0,
        journal_path: str | Path | None = None,
        latency: float = 0.0,
        faults: Iterable[Fault] = (),
        price_after: float | None = None,
    ) -> None:
        self._store = Store(price_after=price_after)
        self.rates = self._store.rates
        self._handed_out: list[Any] = []
        super().__init__(
            _Twilio(self._store),
            port=port,
            journal_path=journal_path,
            latency=latency,
            faults=faults,
        )

    def stop(self) -> None:
        """Stop listening and close open connections; keep the objects and the journal."""
        while self._handed_out:
            session = self._handed_out.pop().session
            if session is not None:
                session.close()
        super().stop()

    def http_client(self, **options: Any) -> Any:
        """Return an HTTP client for ``twilio.rest.Client`` that sends to this fake until it stops."""
        client = clients.sync_client(self.url, **options)
        self._handed_out.append(client)
        return client

    def async_http_client(self, **options: Any) -> Any:
        """Return an HTTP client for async calls; create and close it inside an event loop."""
        return clients.async_client(self.url, **options)

    def client(self, **options: Any) -> Any:
        """Return a ``twilio.rest.Client`` that sends to this fake, with a dummy credential."""
        from twilio.rest import Client  # type: ignore[import-untyped]  # it has no types

        options.setdefault("http_client", self.http_client())
        return Client(self.account_sid, self.auth_token, **options)

    def finish(self, sid: str | None = None, *, seconds: int | None = None) -> None:
        """
        Deliver a message or end a call, and set its price.

        Args:
            sid: A message, call, recording or verification attempt; None: all unfinished ones.
            seconds: The duration of a call.

        """
        with self._lock:
            unfinished = [name for name, one in self._store.priced.items() if not one.done]
            for one in [sid] if sid is not None else unfinished:
                if seconds is not None:
                    voice.set_duration(self._store, one, seconds)
                self._store.finish(self._store.priced[one])
                self._journal_cost(one)

    def fail(self, sid: str, error_code: int = 30003) -> None:
        """Make a message fail: Twilio charges a fee for the attempt, but shows no price."""
        with self._lock:
            priced = self._store.priced[sid]
            priced.cost, priced.done = self._store.rates["failed_message"], True
            priced.body.update(status="failed", error_code=error_code, price=None)
            self._journal_cost(sid)

    def set_price(self, sid: str, price: str, unit: str = "USD") -> None:
        """Set the price of an object, such as ``"-0.00750"``, in place of the fake's own rate."""
        with self._lock:
            priced = self._store.priced[sid]
            self._store.finish(priced)
            priced.cost = abs(round(float(price) * 1_000_000))
            if priced.kind == "verification":
                priced.body["price"] = {"value": price.lstrip("-"), "currency": unit.lower()}
            else:
                priced.body.update(price=price, price_unit=unit)
            self._journal_cost(sid)

    def _journal_cost(self, sid: str) -> None:
        """Record the final cost of an object in the journal, without a request."""
        move = self._store.move(sid)
        self.journal.write(
            method="",
            path=str(self._store.priced[sid].body.get("uri", "")),
            idempotency_key=None,
            params={},
            moved=False,
            kind=move.kind,
            object_id=sid,
            amount=move.amount,
            currency=move.currency,
            standing=move.standing,
            status=move.status,
            http_status=None,
            replayed=False,
            fault=None,
            key_prefix="none",
            request_id=None,
        )


class _Twilio:
    """See ``keybrake.testing.vendor.Vendor``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def params(self, request: Request) -> Mapping[str, Any]:
        """See ``Vendor.params``."""
        try:
            return _decoded(request)
        except ValueError:
            return {}

    def credential(self, request: Request) -> str:
        """See ``Vendor.credential``."""
        return _pair(request)[1]

    def idempotency(self, request: Request) -> tuple[Hashable, str] | None:
        """See ``Vendor.idempotency``: Twilio has no idempotency keys."""

    def answer(self, request: Request) -> Answer:
        """See ``Vendor.answer``."""
        try:
            user, password = _pair(request)
            if not user.startswith(("AC", "SK")) or not password or password.startswith("kb_"):
                raise unauthorized()
            path = unquote(request.path)
            endpoint, ids = routes.find(request.method, path)
            account = path.split("/")[3].removesuffix(".json") if "/Accounts/" in path else user
            outcome = endpoint(Ask(self._store, path, self.params(request), account), *ids)
        except TwilioFailure as failure:
            return Answer(_response(failure.status, failure.body, self._store))
        body = outcome.body or {}
        return Answer(
            _response(outcome.status, outcome.body, self._store),
            began=True,
            move=outcome.move,
            object_id=body.get("sid"),
            status=body.get("status"),
        )

    def failure(self, request: Request, reason: str) -> Response:
        """See ``Vendor.failure``."""
        del request
        failure = of_reason(reason)
        return _response(failure.status, failure.body, self._store)

    def replay(self, request: Request, stored: Response) -> Response:
        """See ``Vendor.replay``."""
        del request
        return stored


def _response(status: int, body: Any, store: Store) -> Response:
    headers = {"Twilio-Request-Id": store.new_sid("RQ"), "Twilio-Request-Duration": "0.010"}
    if body is None:
        return Response(status, headers=headers)
    return Response.of_json(status, body, headers)


def _pair(request: Request) -> tuple[str, str]:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(secret).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _decoded(request: Request) -> dict[str, Any]:
    """Return the parameters of query and body; the value of a repeated parameter is a list."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = json.loads(request.body or b"{}")
        return body if isinstance(body, dict) else {}
    pairs = parse_qsl(request.query, keep_blank_values=True)
    pairs += parse_qsl(request.body.decode(), keep_blank_values=True)
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        else:
            earlier = found[name]
            found[name] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
    return found
