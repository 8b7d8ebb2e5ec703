"""Ask a vendor outside of every guarded call: one request, no redirect, no retry."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from keybrake.credentials import Credential
from keybrake.guard import caller
from keybrake.model.call import Attempt, Reply
from keybrake.vendors.inquirers import Inquiry

_TIMEOUT_S = 20.0
_MOST_BYTES = 8 * 1024 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: what was decided on is the address it was decided for."""


def ask(
    origin: str, vendor: str, inquiry: Inquiry, credential: Credential, account: str = ""
) -> Reply:
    """
    Send one inquiry and return the answer, with any status.

    Raises:
        OSError: Nothing came back.
    """
    request = _request(origin, vendor, inquiry, account)
    request.add_header("Authorization", credential.authorization)
    handlers: list[Any] = [_NoRedirect()]
    if origin.startswith("http://"):
        handlers.append(urllib.request.ProxyHandler({}))  # this machine: no proxy stands between
    opener = urllib.request.build_opener(*handlers)
    try:
        with caller.calling(vendor), opener.open(request, timeout=_TIMEOUT_S) as response:
            return _reply(response)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error)


def _reply(response: Any) -> Reply:
    return Reply(
        status=response.status,
        headers=dict(response.headers.items()),
        body=response.read(_MOST_BYTES),
        attempts=(Attempt(response.status),),
    )


def _request(origin: str, vendor: str, inquiry: Inquiry, account: str) -> urllib.request.Request:
    url, data, headers = f"{origin}{inquiry.path}", None, {"User-Agent": "keybrake"}
    if inquiry.method == "GET":
        query = urlencode(list(_fields(inquiry.params)))
        url = f"{url}?{query}" if query else url
    elif vendor == "resend" or inquiry.path.startswith("/v2/"):
        data = json.dumps(inquiry.params).encode()
        headers["Content-Type"] = "application/json"
    else:
        data = urlencode(list(_fields(inquiry.params))).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if inquiry.idempotency_key is not None:
        headers["Idempotency-Key"] = inquiry.idempotency_key
    if account and vendor == "stripe":
        headers["Stripe-Account" if account.startswith("acct_") else "Stripe-Context"] = account
    return urllib.request.Request(url, data, headers, method=inquiry.method)  # noqa: S310 -- the origin was checked


def _fields(params: Mapping[Any, Any], outer: str = "") -> Iterator[tuple[str, str]]:
    """Yield parameters as a form has them, nested as Stripe's SDK nests them: ``a[b]``, ``a[0]``."""
    for name, value in params.items():
        yield from _field(f"{outer}[{name}]" if outer else name, value)


def _field(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        yield from _fields(value, name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _item(f"{name}[{index}]", item)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    else:
        yield name, str(value)


def _item(name: str, item: Any) -> Iterator[tuple[str, str]]:
    """Yield what stands in a list, to the letter as the SDK has it: None and truths as Python's text."""
    if isinstance(item, Mapping):
        yield from _fields(item, name)
    elif isinstance(item, list | tuple):
        yield from _fields(dict(enumerate(item)), name)
    else:
        yield name, str(item)
