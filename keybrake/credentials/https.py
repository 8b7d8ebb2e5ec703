"""Read from a secrets manager over HTTPS: one GET with verified TLS, without redirects."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from keybrake.credentials.source import SourceFailed

_TIMEOUT_S = 10.0
_MOST_BYTES = 1024 * 1024
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Refuse redirects: the token must go to the configured host only."""


def get_json(base: str, path: str, query: Mapping[str, str], token: str) -> Any:
    """
    Send a GET with a bearer token, and return the decoded JSON.

    Raises:
        SourceFailed: The address is not https, there is no answer, or it is an error or not JSON.
    """
    parts = urllib.parse.urlsplit(base)
    is_plain_on_loopback = parts.scheme == "http" and parts.hostname in THIS_MACHINE
    if parts.scheme != "https" and not is_plain_on_loopback:
        msg = f"would be read unencrypted from {base}; use https"
        raise SourceFailed(msg)
    url = f"{base.rstrip('/')}{path}"
    if query:
        url = f"{url}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 -- checked above
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    handlers: list[Any] = [_NoRedirect()]
    if parts.hostname in THIS_MACHINE:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            msg = f"was not returned: {base} answered {error.code}"
        raise SourceFailed(msg) from None
    except OSError as error:
        why = getattr(error, "reason", error)
        msg = f"{base} does not answer: {type(why).__name__}"
        raise SourceFailed(msg) from None
    except ValueError:
        msg = f"cannot be read: {base} answered with something that is no JSON"
        raise SourceFailed(msg) from None
