"""Run the fake Stripe."""

import base64
import binascii
import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from keybrake.testing import forms
from keybrake.testing.fake import FakeVendor
from keybrake.testing.fake_stripe import (
    clock,
    events,
    invoices,
    items,
    own_funds,
    prices,
    routes,
    totals,
)
from keybrake.testing.fake_stripe.errors import StripeFailure, of_reason, unauthorized
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.store import Store
from keybrake.testing.faults import Fault
from keybrake.testing.journal import Move
from keybrake.testing.server import Request, Response
from keybrake.testing.vendor import Answer

_VERSION: Final = "2025-09-30.clover"


class FakeStripe(FakeVendor):
    """
    Run a fake Stripe on loopback that moves no real money.

    Args:
        port: The port to listen on; 0 picks a free port.
        journal_path: A file to also write the journal to, one line of JSON per request.
        latency: Seconds to wait before every answer.
        faults: Faults, each of which strikes the first request that matches it.

    """

    def __init__(
        self,
        port: int = 0,
        journal_path: str | Path | None = None,
        latency: float = 0.0,
        faults: Iterable[Fault] = (),
    ) -> None:
        stripe = _Stripe()
        super().__init__(
            stripe, port=port, journal_path=journal_path, latency=latency, faults=faults
        )
        self._store = stripe.store

    def add_price(self, unit_amount: int, currency: str = "usd", *, recurring: bool = True) -> str:
        """Create a monthly or one-time price, and return its id."""
        asked: dict[str, Any] = {"unit_amount": unit_amount, "currency": currency}
        if recurring:
            asked["recurring"] = {"interval": "month"}
        with self._lock:
            return str(prices.add(self._store, asked)["id"])

    def add_invoice(self, amount: int, currency: str = "usd", *, status: str = "open") -> str:
        """Create an unpaid invoice, and return its id."""
        with self._lock:
            invoice = invoices.add(self._store, {"currency": currency})
            items.add(self._store, {"amount": amount, "currency": currency}, invoice)
            totals.recount(self._store, invoice)
            invoice["status"] = status
            return str(invoice["id"])

    def advance(self) -> list[str]:
        """
        Let an hour and a billing period pass; return the ids of the collected invoices.

        Drafts with ``auto_advance`` are finalized and charged. Subscriptions charge the first
        period after a trial, and pending items. The journal has each charge under the method
        ``CLOCK``.
        """
        with self._lock:
            return [self._journal_charge(*done) for done in clock.advance(self._store)]

    def _journal_charge(self, invoice: Mapping[str, Any], move: Move) -> str:
        self.journal.write(
            method="CLOCK",
            path=f"/v1/invoices/{invoice['id']}",
            idempotency_key=None,
            params={},
            moved=move.moved,
            kind=move.kind,
            object_id=move.object_id,
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
        return str(invoice["id"])

    def charged(self, currency: str = "usd") -> int:
        """Return the captured total of all charges in one currency, in minor units."""
        with self._lock:
            return sum(
                charge["amount_captured"]
                for charge in self._store.all("charge")
                if charge["currency"] == currency
            )

    def add_dispute(self, amount: int, currency: str = "usd", charge: str | None = None) -> str:
        """Create a dispute that needs a response, and return its id."""
        with self._lock:
            return str(own_funds.add_dispute(self._store, amount, currency, charge)["id"])


class _Stripe:
    """See ``keybrake.testing.vendor.Vendor``."""

    def __init__(self) -> None:
        self.store = Store()

    def params(self, request: Request) -> Mapping[str, Any]:
        """See ``Vendor.params``."""
        try:
            return forms.decode(request)
        except ValueError:
            return {}

    def credential(self, request: Request) -> str:
        """See ``Vendor.credential``."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return secret.strip()
        try:
            return base64.b64decode(secret).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""

    def idempotency(self, request: Request) -> tuple[Hashable, str] | None:
        """See ``Vendor.idempotency``."""
        name = request.headers.get("idempotency-key")
        if request.method != "POST" or not name or not self._is_known(request):
            return None
        # Use a digest, so that memory dumps and tracebacks do not show the API key.
        owner = hashlib.sha256(self.credential(request).encode()).hexdigest()
        account = request.headers.get("stripe-account", "")
        params = json.dumps(self.params(request), sort_keys=True)
        return (owner, account, name), f"{request.method} {request.path} {params}"

    def answer(self, request: Request) -> Answer:
        """See ``Vendor.answer``."""
        try:
            outcome = self._outcome(request)
            response = self._response(request, outcome)
        except StripeFailure as failure:
            return Answer(self._error(request, failure), began=failure.began, move=failure.move)
        body = outcome.body if isinstance(outcome.body, dict) else {}
        events.record(self.store, body, request, response.headers["Request-Id"])
        return Answer(
            response,
            began=True,
            move=outcome.move,
            object_id=body.get("id"),
            status=body.get("status"),
        )

    def failure(self, request: Request, reason: str) -> Response:
        """See ``Vendor.failure``."""
        return self._error(request, of_reason(reason))

    def replay(self, request: Request, stored: Response) -> Response:
        """See ``Vendor.replay``."""
        original = {"Original-Request": stored.headers["Request-Id"]}
        replayed = {"Idempotent-Replayed": "true"}
        return replace(
            stored, headers={**stored.headers, **original, **replayed, **self._headers(request)}
        )

    def _outcome(self, request: Request) -> Outcome:
        if not self._is_known(request):
            raise unauthorized(given=bool(self.credential(request)))
        endpoint, ids = routes.find(request.method, request.path)
        try:
            params = forms.decode(request)
        except ValueError as error:
            raise StripeFailure(message=f"The request body cannot be read: {error}") from error
        return endpoint(self.store, params, *ids)

    def _response(self, request: Request, outcome: Outcome) -> Response:
        headers = self._headers(request)
        if outcome.content_type is not None:
            headers["Content-Type"] = outcome.content_type
            return Response(200, outcome.body, headers)
        paths = self.params(request).get("expand") or []
        body = self.store.expand(outcome.body, paths if isinstance(paths, list) else [paths])
        return Response.of_json(200, body, headers)

    def _error(self, request: Request, failure: StripeFailure) -> Response:
        headers = self._headers(request)
        error = {
            **failure.error,
            "request_log_url": f"https://logs.example/{headers['Request-Id']}",
        }
        return Response.of_json(failure.status, {"error": error}, headers)

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Request-Id": self.store.new_id("req", 14),
            "Stripe-Version": request.headers.get("stripe-version", _VERSION),
        }
        if "idempotency-key" in request.headers:
            headers["Idempotency-Key"] = request.headers["idempotency-key"]
        return headers

    def _is_known(self, request: Request) -> bool:
        return self.credential(request).startswith(("sk_", "rk_"))
