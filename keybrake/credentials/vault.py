"""``vault://secret/stripe#/api_key``: HashiCorp Vault and OpenBao, key-value engines 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hvac
import requests
from hvac import exceptions

from keybrake.config.references import Reference
from keybrake.credentials.source import SourceFailed
from keybrake.model.waiting import Mutex, monotonic

_TIMEOUT_S = 10.0
# A token is renewed once less than this share of its life is left.
_RENEW_BELOW = 0.5


class VaultSource:
    """
    See ``Source``.

    Where: ``address`` in the reference, else ``VAULT_ADDR`` or ``BAO_ADDR``; ``namespace`` likewise.
    As whom: ``VAULT_TOKEN``, ``BAO_TOKEN`` or ``~/.vault-token``, or else by AppRole with
    ``VAULT_ROLE_ID`` and ``VAULT_SECRET_ID``. A token that can be renewed is, while it is used.
    """

    SECRETS: ClassVar[tuple[str, ...]] = (
        "VAULT_TOKEN",
        "BAO_TOKEN",
        "VAULT_SECRET_ID",
        "BAO_SECRET_ID",
    )

    def __init__(self) -> None:
        self._lock = Mutex()
        self._sessions: dict[tuple[str, str], _Session] = {}

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        address = reference.param("address") or _environ("ADDR")
        if not address:
            msg = "has no address; set VAULT_ADDR"
            raise SourceFailed(msg)
        namespace = reference.param("namespace") or _environ("NAMESPACE")
        with self._lock:
            place = (address, namespace)
            session = self._sessions.setdefault(place, _Session(*place))
            return _value(session.read(reference), reference)


class _Life(NamedTuple):
    """How long a token lives: *until*, by the monotonic clock, of *seconds* in all."""

    until: float
    seconds: float


class _Session:
    """What is kept of one server: a client that is logged in."""

    def __init__(self, address: str, namespace: str) -> None:
        self._client = hvac.Client(
            url=address, namespace=namespace or None, timeout=_TIMEOUT_S, allow_redirects=False
        )
        self._said: tuple[str, ...] = ()
        self._life: _Life | None = None

    def read(self, reference: Reference) -> Mapping[str, Any]:
        """Return the object at a path; a token that has expired meanwhile is fetched anew, once."""
        for again in (False, True):
            try:
                self._log_in(anew=again)
                return self._read(reference.path.strip("/"), reference.param("version"))
            except exceptions.Forbidden:
                if again:
                    msg = "may not be read with this token or role"
                    raise SourceFailed(msg) from None
            except exceptions.InvalidPath:
                msg = "is not there"
                raise SourceFailed(msg) from None
            except exceptions.VaultError as error:
                msg = f"cannot be read: {type(error).__name__}"
                raise SourceFailed(msg) from None
            except requests.RequestException as error:
                why = type(error).__name__
                msg = f"{self._client.url} does not answer: {why}"
                raise SourceFailed(msg) from None
        raise AssertionError

    def _log_in(self, *, anew: bool) -> None:
        token = _environ("TOKEN") or _token_file()
        said = (token,) if token else (_environ("ROLE_ID"), _environ("SECRET_ID"))
        if anew or said != self._said:
            if token:
                self._client.token = token
                self._life = _life(self._told_of_itself())
            elif all(said):
                found = self._client.auth.approle.login(*said)["auth"]
                self._life = _life({**found, "ttl": found["lease_duration"]})
            else:
                msg = "has no token; set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID"
                raise SourceFailed(msg)
            self._said = said
        elif self._life and self._life.until - monotonic() < self._life.seconds * _RENEW_BELOW:
            found = self._client.auth.token.renew_self()["auth"]
            self._life = _life({**found, "ttl": found["lease_duration"]})

    def _told_of_itself(self) -> Mapping[str, Any]:
        """Return what the server says of the token; nothing if its policy does not let it ask."""
        try:
            return self._data("/v1/auth/token/lookup-self")
        except exceptions.VaultError:
            return {}

    def _read(self, path: str, version: str | None) -> Mapping[str, Any]:
        try:
            mounted = self._data(f"/v1/sys/internal/ui/mounts/{path}")
        except exceptions.VaultError:
            mounted = {}
        if not mounted.get("path"):
            # Not every policy, and not every server in between, lets this be asked.
            return self._read_unasked(path, version)
        mount = str(mounted["path"]).rstrip("/")
        rest = path.removeprefix(mount).lstrip("/")
        options = mounted.get("options")
        if isinstance(options, Mapping) and options.get("version") == "2":
            return self._read_versioned(mount, rest, version)
        return self._data(f"/v1/{mount}/{rest}")

    def _read_unasked(self, path: str, version: str | None) -> Mapping[str, Any]:
        """Read what stands in the engine that the first part of a path names, whichever its version."""
        mount, _, rest = path.partition("/")
        try:
            return self._read_versioned(mount, rest, version)
        except exceptions.InvalidPath:
            return self._data(f"/v1/{path}")

    def _read_versioned(self, mount: str, rest: str, version: str | None) -> Mapping[str, Any]:
        wanted = {"version": version} if version else {}
        return _object(self._data(f"/v1/{mount}/data/{rest}", params=wanted).get("data"))

    def _data(self, path: str, **wanted: Any) -> Mapping[str, Any]:
        answer = self._client.adapter.get(path, **wanted)
        return _object(answer.get("data") if isinstance(answer, Mapping) else None)


def _object(found: object) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        msg = "cannot be read: there are no values in what the server answered"
        raise SourceFailed(msg)
    return found


def _life(found: Mapping[str, Any]) -> _Life | None:
    """Return how long a token lives; None: it cannot be renewed, or never ends."""
    seconds = float(found.get("ttl") or 0)
    if not found.get("renewable") or seconds <= 0:
        return None
    return _Life(monotonic() + seconds, seconds)


def _value(found: Mapping[str, Any], reference: Reference) -> str:
    if reference.keys:
        return reference.pick_from(found)
    if len(found) != 1:
        msg = f"holds {len(found)} values; write which one: #/KEY"
        raise SourceFailed(msg)
    return str(next(iter(found.values())))


def _environ(name: str) -> str:
    return os.environ.get(f"VAULT_{name}") or os.environ.get(f"BAO_{name}") or ""


def _token_file() -> str:
    try:
        return (Path.home() / ".vault-token").read_text("utf-8").strip()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return ""
