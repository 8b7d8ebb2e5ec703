"""Bring the twilio SDK to a fake: HTTP clients that take Twilio's hosts for an address of ours."""

from typing import Any


def sync_client(url: str, **options: Any) -> Any:
    """
    Return an HTTP client for ``twilio.rest.Client`` that sends everything to *url*.

    The SDK, and whoever stands above its HTTP client, still sees Twilio's own hosts.
    """
    # Here, not above: the fake itself does without the SDK.
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
            place, headers = _moved(url, self.fake_url, headers)
            return super().request(
                method, place, params, data, headers, auth, timeout, allow_redirects
            )

    client = FakeHttpClient(**options)
    client.fake_url = url
    if client.session is not None:
        client.session.trust_env = False  # no proxy stands between this machine and itself
    return client


def async_client(url: str, **options: Any) -> Any:
    """Return the same for ``create_async`` and its like; made and closed inside an event loop."""
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
            place, headers = _moved(url, self.fake_url, headers)
            return await super().request(
                method, place, params, data, headers, auth, timeout, allow_redirects
            )

    client = FakeAsyncHttpClient(**options)
    client.fake_url = url
    return client


def _moved(url: str, fake_url: str, headers: Any) -> tuple[str, dict[str, Any]]:
    """Return where to go instead, and the headers that name the host that was meant."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if scheme != "https" or not host.endswith(".twilio.com"):
        return url, dict(headers or {})
    return f"{fake_url}{slash}{path}", {**(headers or {}), "Host": host}
