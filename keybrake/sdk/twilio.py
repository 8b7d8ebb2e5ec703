"""The Twilio SDK's one chokepoint: every call of twilio 8 and 9, sync and async, passes it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

from keybrake.config import settings
from keybrake.credentials import Credential
from keybrake.model import vault_key
from keybrake.model.call import Lookup, Reply, Request
from keybrake.sdk import extra_headers, injection, sdk_errors
from keybrake.sdk.door import AsyncSDKDoor, SDKDoor, check_version, copied
from keybrake.sdk.patch import Hook
from keybrake.sdk.sdk_errors import Place
from keybrake.sdk.twilio_attempts import Seen, attempt, attempt_async, is_on_its_way, observed
from keybrake.sdk.twilio_auth import Auth, forget

SUPPORTED = (8, 10)  # from the first major version on, below the second


# In the order in which every supported version takes them; install checks that they are there.
_PARAMETERS = (
    "method",
    "uri",
    "params",
    "data",
    "headers",
    "auth",
    "timeout",
    "allow_redirects",
)


class TwilioDoor(SDKDoor):
    """One call of ``ClientBase.request``."""

    vendor = "twilio"
    parameters = _PARAMETERS

    def __init__(
        self, wrapped: Callable[..., Any], instance: Any, given: Mapping[str, Any]
    ) -> None:
        super().__init__(wrapped, instance, given)
        self._client = client = instance
        self._decided = {
            "params": copied(given.get("params")),
            "data": copied(given.get("data")),
            "headers": dict(given.get("headers") or {}),
            "allow_redirects": False,
        }
        self.follows_redirects = bool(self._given.get("allow_redirects"))
        pair = _pair(client, self._given.get("auth"))
        own = _pair(client, None)
        self.vault_key = _vault_key(pair) or _vault_key(own)
        self.request = self._describe(vault_key.fingerprint("".join(pair)), pair)

    @classmethod
    def is_under_way(cls, instance: Any, given: Mapping[str, Any]) -> bool:
        """See ``SDKDoor.is_under_way``."""
        del instance
        return is_on_its_way(given.get("headers"))

    def _describe(self, owner: str, pair: tuple[str, ...]) -> Request:
        method = str(self._given["method"]).upper()
        uri, misread = _final(self._client, self._given["uri"])
        url, _, query = uri.partition("?")
        return Request(
            vendor="twilio",
            method=method,
            url=url,
            params=self._said(method, query),
            account=str(getattr(self._client, "account_sid", None) or ""),
            owner=owner,
            refusal=self._other_key(pair)
            or extra_headers.overridden(self._decided["headers"])
            or misread,
        )

    def _said(self, method: str, query: str) -> Any:
        """Return the parameters as the vendor reads them: of a read, wherever they stand."""
        params, data = self._decided["params"], self._decided["data"]
        if method == "GET":
            return _merged([query, params, data])
        # It is unknown how Twilio reads two places at once: then they are not one dictionary.
        return [_merged([query, params]), data] if query or params else data or {}

    def _other_key(self, pair: tuple[str, ...]) -> tuple[str, str] | None:
        """Refuse a key of the caller's own where a vault key was set for every call."""
        if self.vault_key is None or self.vault_key in pair:
            return None
        return "header_override", "the call brings an auth of its own beside the vault key"

    def take(self, credential: Credential) -> tuple[str, str] | None:
        """See ``Door.take``."""
        self.credential = credential
        self.request = replace(self.request, owner=credential.fingerprint)
        if getattr(self._client, "credential_provider", None) is not None:
            words = "a credential provider takes no vault key; use Client(account_sid, vault_key)"
            return "credential_unavailable", words
        known = (credential.user, *settings.current().accounts.get("twilio", ()))
        account = _ACCOUNT.search(self.request.url)
        # An API key belongs to one account and does not show its id; Twilio refuses any other.
        if account and credential.user.startswith("AC") and account[1] not in known:
            words = f"the credential may not act for the account {account[1]!a:.60}"
            return "account_not_allowed", words
        return injection.objection(self._client.http_client)

    def forward(self, idempotency_key: str | None) -> Any:
        """See ``Door.forward``."""
        if idempotency_key is None:
            return self._wrapped(**self._given)
        # Twilio takes no idempotency key.
        return self._send({**self._given, **self._decided})

    def _send(self, arguments: Mapping[str, Any]) -> Any:
        self.seen = self._flight(arguments["headers"], self.request.url)
        with self._on_the_wire(self.seen, arguments) as dressed:
            return self._wrapped(**dressed)

    def _flight(self, headers: Mapping[str, Any], url: str) -> Seen:
        seen = Seen(headers)
        seen.carries(self.credential, "twilio", url)
        return seen

    @contextlib.contextmanager
    def _on_the_wire(self, seen: Seen, arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Have the credential in the vault key's place, and nothing of it left afterwards."""
        if self.credential is None:
            with observed(seen):
                yield arguments
            return
        auth, http_client = Auth(self.credential, seen), self._client.http_client
        try:
            with injection.no_trace(seen), observed(seen):
                yield {**arguments, "auth": auth}
        finally:
            for one in (http_client, self._client.http_client):
                forget(one, self.vault_key)

    def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        arguments = self._look_up_arguments(lookup)
        with self._on_the_wire(self._asking(arguments), arguments) as dressed:
            return _found(self._wrapped(**dressed))

    def _asking(self, arguments: Mapping[str, Any]) -> Seen:
        return self._flight(arguments["headers"], _final(self._client, arguments["uri"])[0])

    def _look_up_arguments(self, lookup: Lookup) -> dict[str, Any]:
        # As the caller, to the host of the call; nothing else of this call is the look-up's.
        origin = "/".join(self.request.url.split("/", 3)[:3])
        kept: dict[str, Any] = {
            name: self._given[name] for name in ("auth", "timeout") if name in self._given
        }
        return {
            **kept,
            "method": lookup.method,
            "uri": f"{origin}{lookup.path}",
            "params" if lookup.method == "GET" else "data": dict(lookup.params),
            "headers": {},
        }

    def reply(self, answer: Any) -> Reply:
        """See ``Door.reply``."""
        status, body = int(answer.status_code), answer.text
        return Reply(
            status=status,
            headers=dict(answer.headers or {}),
            body=body if isinstance(body, bytes | str) else None,
            attempts=self.seen.all_before(status),
        )

    def failure(self, error: BaseException) -> Reply:
        """See ``Door.failure``."""
        return Reply(attempts=self.seen.all_of(self._client.http_client, error))


class AsyncTwilioDoor(AsyncSDKDoor, TwilioDoor):
    """One call of ``request_async``: sending is awaited, all else is the same."""

    async def _send(self, arguments: Mapping[str, Any]) -> Any:
        self.seen = self._flight(arguments["headers"], self.request.url)
        with self._on_the_wire(self.seen, arguments) as dressed:
            return await self._wrapped(**dressed)

    async def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        arguments = self._look_up_arguments(lookup)
        with self._on_the_wire(self._asking(arguments), arguments) as dressed:
            return _found(await self._wrapped(**dressed))


_ACCOUNT = re.compile(r"/Accounts/([^/?.]+)")


def _vault_key(pair: Iterable[object]) -> str | None:
    return next(filter(None, map(vault_key.vault_key_in, pair)), None)


def _found(answer: Any) -> tuple[Any, int]:
    import json

    status = int(answer.status_code)
    found = json.loads(answer.text) if status == 200 else None
    return (found if isinstance(found, dict) else None), status


def _pair(client: Any, auth: Any) -> tuple[str, ...]:
    """Return user name and password as the SDK will send them, in whatever way they came."""
    provider = getattr(client, "credential_provider", None)
    if provider is not None:
        names = ("client_id", "client_secret")
        return tuple(str(getattr(provider, name, "")) for name in names)
    pair = auth or getattr(client, "auth", None)
    known = pair if isinstance(pair, list | tuple) else (client.username, client.password)
    return tuple(_text(part) for part in known if isinstance(part, str | bytes))


def _text(part: str | bytes) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else part


def _final(client: Any, uri: Any) -> tuple[str, tuple[str, str] | None]:
    """Return where a call goes, by the client's region and edge, and why it may not, if so."""
    try:
        return str(client.get_hostname(uri)), None
    except (ValueError, TypeError, AttributeError):
        return str(uri), ("path_not_canonical", f"{uri!a:.100} is no URL")


def _merged(places: Iterable[Any]) -> dict[Any, list[Any]] | None:
    """Return every parameter of several places with all of its values; None: one is unreadable."""
    found: dict[Any, list[Any]] = {}
    try:
        for place in places:
            for name, value in _items(place):
                values = value if isinstance(value, list | tuple) else [value]
                found.setdefault(name, []).extend(values)
    except (TypeError, ValueError):
        return None
    return found


def _items(place: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(place, bytes):
        place = place.decode("latin-1")
    if isinstance(place, str):
        # Some servers take a semicolon for an ampersand.
        yield from parse_qsl(place.replace(";", "&"), keep_blank_values=True)
    elif isinstance(place, Mapping):
        yield from place.items()
    elif place is not None:
        yield from place


def _check_version(module: ModuleType) -> None:
    check_version("twilio", str(getattr(module, "__version__", "") or "?"), SUPPORTED)


_SENDING = ("method", "url")
_SYNC, _ASYNC = "twilio.http.http_client", "twilio.http.async_http_client"

HOOKS = (
    Hook("twilio", check=_check_version),
    Hook("twilio.base.client_base", "ClientBase.request", TwilioDoor.hook, _PARAMETERS, binds=True),
    Hook(
        "twilio.base.client_base",
        "ClientBase.request_async",
        AsyncTwilioDoor.hook,
        _PARAMETERS,
        binds=True,
    ),
    Hook(_SYNC, "TwilioHttpClient.request", attempt, _SENDING),
    Hook(_ASYNC, "AsyncTwilioHttpClient.request", attempt_async, _SENDING),
)


class _RestErrors:
    """A refusal is ``TwilioRestException``, too: 403, without a code of Twilio's."""

    def sdk_class(self) -> type[Exception]:
        """See ``ErrorShape.sdk_class``."""
        from twilio.base.exceptions import (  # type: ignore[import-untyped]  # it has no types
            TwilioRestException,
        )

        found: type[Exception] = TwilioRestException
        return found

    def start(self, error: Any, message: str) -> None:
        """See ``ErrorShape.start``."""
        kind: Any = self.sdk_class()
        kind.__init__(error, 403, "", message)

    def finish(self, error: Any, place: Place) -> None:
        """See ``ErrorShape.finish``."""
        error.method, error.uri = place
        error.details = {"reason": error.reason, "hint": error.hint}


sdk_errors.register("twilio", _RestErrors())
