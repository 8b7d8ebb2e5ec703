"""The Stripe SDK's one chokepoint: every call of stripe 8 to 16, sync and async, passes it."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from types import ModuleType
from typing import Any

from keybrake.config import settings
from keybrake.credentials import Credential
from keybrake.model import vault_key
from keybrake.model.call import Attempt, Lookup, Reply, Request, takes_key
from keybrake.sdk import injection, network, redirects, sdk_errors
from keybrake.sdk.door import AsyncSDKDoor, SDKDoor, check_version, copied, frames_of, unfit_key
from keybrake.sdk.extra_headers import name_of, overridden
from keybrake.sdk.handed import handed
from keybrake.sdk.patch import Hook
from keybrake.sdk.sdk_errors import Place
from keybrake.wire import hosts

SUPPORTED = (8, 17)  # from the first major version on, below the second
_LONGEST_KEY = 255


class _Seen(redirects.Flight):
    """
    The HTTP attempts of one call, as the SDK's retry loop went through them.

    Attributes:
        options: The very object that was handed down: the mark of this call, and no other.
        error: The error of the last attempt, if it had no answer.
    """

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        self.options = options
        self.attempts: list[Attempt] = []
        self.error: BaseException | None = None
        self.handled = sys.exc_info()[1]


_seen: ContextVar[_Seen | None] = ContextVar("keybrake_stripe_seen", default=None)


# In the order in which every supported version takes them; install checks that they are there.
_POSITIONAL = ("method", "url", "params", "options", "is_streaming")


class StripeDoor(SDKDoor):
    """One call of ``_APIRequestor.request_raw``."""

    vendor = "stripe"
    parameters = _POSITIONAL

    def __init__(
        self, wrapped: Callable[..., Any], instance: Any, given: Mapping[str, Any]
    ) -> None:
        super().__init__(wrapped, instance, given)
        self._requestor = requestor = instance
        self._options: dict[str, Any] = dict(given.get("options") or {})
        self._params = copied(given.get("params") or {})
        key = self._options.get("api_key") or requestor._options.api_key
        # A call that brings a key of its own has a requestor of its own.
        meant = getattr(requestor, _VAULT_KEY, None) or requestor._options.api_key
        self.vault_key = vault_key.vault_key_in(key) or vault_key.vault_key_in(meant)
        self.request = self._describe(vault_key.fingerprint(str(key or "")), key)

    @classmethod
    def is_under_way(cls, instance: Any, given: Mapping[str, Any]) -> bool:
        """See ``SDKDoor.is_under_way``."""
        del instance
        seen = _seen.get()
        return seen is not None and given.get("options") is seen.options

    def _describe(self, owner: str, given_key: object) -> Request:
        method = str(self._given["method"]).upper()
        base = self._requestor._options.base_addresses.get(self._given.get("base_address"))
        path, _, query = str(self._given["url"]).partition("?")
        given = dict(self._options.get("headers") or {})
        headers = {name_of(name).replace("_", "-"): value for name, value in given.items()}
        self._accounts = self._named_accounts(headers)
        account = next(iter(self._accounts), "")
        key = self._options.get("idempotency_key")
        # A key that no header could carry would fail half-way.
        unfit = unfit_key(key, _LONGEST_KEY) if key else None
        self._takes_key = takes_key(method, path)
        return Request(
            vendor="stripe",
            method=method,
            url=f"{base}{path}",
            params=self._params,
            account=account,
            owner=owner,
            idempotency_key=key if self._takes_key and not unfit else None,
            refusal=self._other_key(given_key)
            or overridden(headers)
            or _foreign_account(account)
            or unfit
            or _elsewhere(method, path, query),
        )

    def _other_key(self, given: object) -> tuple[str, str] | None:
        """Refuse a key of the caller's own where a vault key was set for every call."""
        if self.vault_key is None or vault_key.vault_key_in(given) == self.vault_key:
            return None
        return "header_override", "the call brings an api_key of its own beside the vault key"

    def take(self, credential: Credential) -> tuple[str, str] | None:
        """See ``Door.take``."""
        self.credential = credential
        self.request = replace(self.request, owner=credential.fingerprint)
        known = settings.current().accounts.get("stripe", ())
        for account in self._accounts:
            if account not in known:
                words = f"the credential may not act for the account {account!a:.60}"
                return "account_not_allowed", words
        client = self._requestor._get_http_client()
        return injection.objection(client)

    def _named_accounts(self, headers: Mapping[str, Any]) -> tuple[str, ...]:
        own = self._requestor._options
        found = (
            headers.get(name.replace("_", "-"))
            or self._options.get(name)
            or getattr(own, name, None)
            for name in ("stripe_account", "stripe_context")
        )
        return tuple(str(account) for account in found if account)

    def forward(self, idempotency_key: str | None) -> Any:
        """See ``Door.forward``."""
        if idempotency_key is None:
            return self._wrapped(**self._given)
        options = self._options
        if self._takes_key:
            options = {**options, "idempotency_key": idempotency_key}
        return self._send({**self._given, "params": self._params, "options": options})

    def _send(self, arguments: Mapping[str, Any]) -> Any:
        self.seen = self._flight(arguments["options"], self.request.url)
        with _observed(self.seen):
            return self._wrapped(**arguments)

    def _flight(self, options: Mapping[str, Any], url: str) -> _Seen:
        seen = _Seen(options)
        seen.carries(self.credential, "stripe", url)
        return seen

    def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        arguments = self._look_up_arguments(lookup)
        with _observed(self._flight(arguments["options"], self._look_up_url(lookup))):
            body, status, _ = self._wrapped(**arguments)
        return _found(body, status)

    def _look_up_url(self, lookup: Lookup) -> str:
        return f"{self._requestor._options.base_addresses.get('api')}{lookup.path}"

    def _look_up_arguments(self, lookup: Lookup) -> dict[str, Any]:
        # As the caller, to the caller's account; nothing else of this call is the look-up's.
        kept = ("api_key", "stripe_account", "stripe_context", "stripe_version")
        return {
            "method": lookup.method.lower(),
            "url": lookup.path,
            "params": dict(lookup.params),
            "options": {name: self._options[name] for name in kept if name in self._options},
            "base_address": "api",
            "api_mode": "V2" if str(lookup.path).startswith("/v2/") else "V1",
        }

    def reply(self, answer: Any) -> Reply:
        """See ``Door.reply``."""
        body, status, headers = answer
        return Reply(
            status=status,
            headers=headers,
            body=body if isinstance(body, bytes | str) else None,
            attempts=tuple(self.seen.attempts),
        )

    def failure(self, error: BaseException) -> Reply:
        """See ``Door.failure``."""
        attempts = list(self.seen.attempts)
        if isinstance(error, hosts.Elsewhere) or (not attempts and _never_left_the_sdk(error)):
            attempts.append(Attempt(None, unsent=True))
        elif error is not self.seen.error:
            # Not the error that ended the last attempt: it struck in the middle of one more.
            attempts.append(Attempt(None))
        return Reply(attempts=tuple(attempts))


class AsyncStripeDoor(AsyncSDKDoor, StripeDoor):
    """One call of ``request_raw_async``: sending is awaited, all else is the same."""

    async def _send(self, arguments: Mapping[str, Any]) -> Any:
        self.seen = self._flight(arguments["options"], self.request.url)
        with _observed(self.seen):
            return await self._wrapped(**arguments)

    async def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        arguments = self._look_up_arguments(lookup)
        with _observed(self._flight(arguments["options"], self._look_up_url(lookup))):
            body, status, _ = await self._wrapped(**arguments)
        return _found(body, status)


def _found(body: Any, status: int) -> tuple[Any, int]:
    import json

    found = json.loads(body) if status == 200 else None
    return (found if isinstance(found, dict) else None), status


_ACCOUNT = re.compile(r"[A-Za-z0-9_/-]{0,200}")


def _foreign_account(account: str) -> tuple[str, str] | None:
    if _ACCOUNT.fullmatch(account):
        return None
    return "header_override", f"the account {account!a:.60} is not one Stripe would know"


def _elsewhere(method: str, path: str, query: str) -> tuple[str, str] | None:
    if not path.startswith("/"):
        return "path_not_canonical", f"the path {path!a:.100} does not begin with /"
    if method != "GET" and query:
        return "path_not_canonical", "parameters stand in the URL of a call that has a body"
    return None


def _never_left_the_sdk(error: BaseException) -> bool:
    """Return whether *error* arose while the SDK prepared the request, before any HTTP client."""
    # This function merges options, builds the URL and encodes, before anything is sent. stripe 8.0
    # does not have it; there, such an error is unknown like any other.
    return ("stripe._api_requestor", "_args_for_request_with_retries") in frames_of(error)


@contextlib.contextmanager
def _observed(seen: _Seen) -> Iterator[None]:
    with injection.no_trace(seen), redirects.under_way(seen, _seen):
        yield


_VAULT_KEY = "_keybrake_vault_key"


def _requestor_of_one_call(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Remember the vault key that a call's own options take the place of."""
    made = wrapped(*args, **kwargs)
    meant = getattr(instance, _VAULT_KEY, None) or vault_key.vault_key_in(instance._options.api_key)
    if meant is not None and made is not instance:
        setattr(made, _VAULT_KEY, meant)
    return made


def _with_retries(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The last place that every call passes: the credential goes into the header here."""
    seen = _seen.get()
    if seen is None or seen.over or seen.credential is None:
        return wrapped(*args, **kwargs)
    bound = {**dict(zip(_SENT, args, strict=False)), **kwargs}
    injection.verify(seen, str(bound["url"]))
    if (found := injection.objection(instance)) is not None:
        raise hosts.Elsewhere(found[1])
    headers = {**bound["headers"], "Authorization": seen.credential.authorization}
    seen.handed = handed(bound["method"], str(bound["url"]), headers)
    return wrapped(**{**bound, "headers": headers})


def _should_retry(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The SDK asks this once after every HTTP attempt: the place to see each of them."""
    seen = _seen.get()
    if seen is not None:
        arguments = {**dict(zip(_RETRY_PARAMETERS, args, strict=False)), **kwargs}
        response, error = (arguments[name] for name in _RETRY_PARAMETERS)
        seen.error = error
        hidden = _retries_below(instance)
        if response is not None:
            # A session of the user may have tried before this answer, unseen.
            seen.attempts += [Attempt(None)] if hidden else []
            seen.attempts.append(Attempt(int(response[1])))
        else:
            unsent = network.never_left(error, seen.handled) and not hidden
            seen.attempts.append(Attempt(None, unsent=unsent))
    return wrapped(*args, **kwargs)


def _retries_below(http_client: Any) -> bool:
    """Return whether attempts may be hidden: a requests session of the user's can retry itself."""
    session = getattr(http_client, "_session", None)
    if getattr(http_client, "name", None) != "requests" or session is None:
        return False
    adapters = getattr(session, "adapters", {}).values()
    return any(_most_retries(adapter) != 0 for adapter in adapters)


def _most_retries(adapter: Any) -> Any:
    # urllib3's own word: 0 or False for none; any other object may retry as it likes.
    return getattr(getattr(adapter, "max_retries", None), "total", None)


def _check_version(module: ModuleType) -> None:
    version = getattr(module, "VERSION", "") or getattr(module, "__version__", "") or "?"
    check_version("stripe", str(version), SUPPORTED)


class _PermissionErrors:
    """A refusal is ``stripe.PermissionError``, too: 403, which the SDK never retries."""

    def sdk_class(self) -> type[Exception]:
        """See ``ErrorShape.sdk_class``."""
        import stripe

        found: type[Exception] = stripe.PermissionError
        return found

    def start(self, error: Any, message: str) -> None:
        """See ``ErrorShape.start``."""
        import stripe

        stripe.PermissionError.__init__(error, message, http_status=403)

    def finish(self, error: Any, place: Place) -> None:
        """See ``ErrorShape.finish``."""
        del place
        error.code = error.reason


sdk_errors.register("stripe", _PermissionErrors())


def _has_async(module: ModuleType) -> bool:
    # stripe 8.0 to 8.10 have no async calls at all.
    requestor = getattr(module, "_APIRequestor", None)
    return hasattr(requestor, "request_async") or hasattr(requestor, "request_raw_async")


def _requestor_has(name: str, module: ModuleType) -> bool:
    # keybrake knows no version that has neither: the first name's hook says so.
    kind = module._APIRequestor
    return hasattr(kind, name) or (name[1] == "n" and not hasattr(kind, "_replace_options"))


def _is_async(module: ModuleType) -> bool:
    return hasattr(module.HTTPClient, "request_with_retries_async")


_PARAMETERS = (*_POSITIONAL, "base_address", "api_mode")
_RETRY_PARAMETERS = ("response", "api_connection_error")
_SENT = ("method", "url", "headers", "post_data", "max_network_retries")

HOOKS = (
    Hook("stripe", check=_check_version),
    Hook(
        "stripe._api_requestor",
        "_APIRequestor.request_raw",
        StripeDoor.hook,
        _PARAMETERS,
        binds=True,
    ),
    Hook(
        "stripe._api_requestor",
        "_APIRequestor.request_raw_async",
        AsyncStripeDoor.hook,
        _PARAMETERS,
        binds=True,
        present=_has_async,
    ),
    *(
        Hook(
            "stripe._api_requestor",
            f"_APIRequestor.{name}",
            _requestor_of_one_call,
            ("options",),
            present=functools.partial(_requestor_has, name),
        )
        # The second is its name before 14.
        for name in ("_new_requestor_with_options", "_replace_options")
    ),
    *(
        Hook("stripe._http_client", f"HTTPClient.{name}", _with_retries, _SENT)
        for name in ("request_with_retries", "request_stream_with_retries")
    ),
    *(
        Hook("stripe._http_client", f"HTTPClient.{name}", _with_retries, _SENT, present=_is_async)
        for name in ("request_with_retries_async", "request_stream_with_retries_async")
    ),
    Hook(
        "stripe._http_client",
        "HTTPClient._should_retry",
        _should_retry,
        _RETRY_PARAMETERS,
    ),
)
