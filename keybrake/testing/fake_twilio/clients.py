"""Point the twilio SDK at a fake: HTTP clients that send requests for Twilio's hosts there."""

from typing import Any


def sync_client(url: str, **options: Any) -> Any:
    """
    Return an HTTP client for ``twilio.rest.Client`` that sends everything to *url*.

    The SDK, and any wrapper around its HTTP client, still sees Twilio's own hosts.
    """
    # Import lazily: the fake itself works without the SDK.
    from twilio.http.http_client import (  # type: ignore[import-untyped]  # it has no types
        TwilioHttpClient,
    )

    class FakeHttpClient(TwilioHttpClient):  # type: ignore[misc]  # the SDK has no types
        def request(  # noqa: PLR0913, PLR0917 -- as the SDK's own
            self,
            method: str,
            url: str,
            params: Any = None,
            data: Any = None,
            headers: Any = None,
            auth: Any = None,
            timeout: Any = None,
            allow_redirects: bool = False,  # noqa: FBT001, FBT002
        ) -> Any:
            place, headers = _redirected(url, self.fake_url, headers)
            return super().request(
                method, place, params, data, headers, auth, timeout, allow_redirects
            )

    client = FakeHttpClient(**options)
    client.fake_url = url
    if client.session is not None:
        client.session.trust_env = False  # Requests to loopback must not go through a proxy.
    return client


def async_client(url: str, **options: Any) -> Any:
    """Return an HTTP client for async calls; create and close it inside an event loop."""
    from twilio.http.async_http_client import (  # type: ignore[import-untyped]  # it has no types
        AsyncTwilioHttpClient,
    )

    class FakeAsyncHttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]  # the SDK has no types
        async def request(  # noqa: PLR0913, PLR0917 -- as the SDK's own
            self,
            method: str,
            url: str,
            params: Any = None,
            data: Any = None,
            headers: Any = None,
            auth: Any = None,
            timeout: Any = None,  # noqa: ASYNC109 -- as the SDK's own
            allow_redirects: bool = False,  # noqa: FBT001, FBT002
        ) -> Any:
            place, headers = _redirected(url, self.fake_url, headers)
            return await super().request(
                method, place, params, data, headers, auth, timeout, allow_redirects
            )

    client = FakeAsyncHttpClient(**options)
    client.fake_url = url
    return client


def _redirected(url: str, fake_url: str, headers: Any) -> tuple[str, dict[str, Any]]:
    """Return the fake's URL for a Twilio *url*, and headers with Twilio's host as ``Host``."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if scheme != "https" or not host.endswith(".twilio.com"):
        return url, dict(headers or {})
    return f"{fake_url}{slash}{path}", {**(headers or {}), "Host": host}
