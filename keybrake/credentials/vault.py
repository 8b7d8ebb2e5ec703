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
# A token is renewed when less than this share of its TTL is left.
_RENEW_BELOW = 0.5


class VaultSource:
    """
    See ``Source``.

    Server: ``address`` in the reference, else ``VAULT_ADDR`` or ``BAO_ADDR``; ``namespace`` likewise.
    Login: the token in ``VAULT_TOKEN``, ``BAO_TOKEN`` or ``~/.vault-token``, else AppRole with
    ``VAULT_ROLE_ID`` and ``VAULT_SECRET_ID``. A renewable token is renewed while it is used.
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
            if place not in self._sessions:
                self._sessions[place] = _Session(*place)
            session = self._sessions[place]
            return _value(session.read(reference), reference)


class _Lease(NamedTuple):
    """The lifetime of a token: it ends at *until* (monotonic clock) and is *seconds* long."""

    until: float
    seconds: float


class _Session:
    """A logged-in client of one server and namespace."""

    def __init__(self, address: str, namespace: str) -> None:
        self._client = hvac.Client(
            url=address, namespace=namespace or None, timeout=_TIMEOUT_S, allow_redirects=False
        )
        self._login: tuple[str, ...] = ()
        self._lease: _Lease | None = None

    def read(self, reference: Reference) -> Mapping[str, Any]:
        """Return the object at a path; if the token has expired, log in again once."""
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
        login = (token,) if token else (_environ("ROLE_ID"), _environ("SECRET_ID"))
        if anew or login != self._login:
            if token:
                self._client.token = token
                self._lease = _lease(self._token_details())
            elif all(login):
                found = self._client.auth.approle.login(*login)["auth"]
                self._lease = _lease({**found, "ttl": found["lease_duration"]})
            else:
                msg = "has no token; set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID"
                raise SourceFailed(msg)
            self._login = login
        elif self._lease and self._lease.until - monotonic() < self._lease.seconds * _RENEW_BELOW:
            found = self._client.auth.token.renew_self()["auth"]
            self._lease = _lease({**found, "ttl": found["lease_duration"]})

    def _token_details(self) -> Mapping[str, Any]:
        """Return the server's data about the token; empty if its policy forbids the look-up."""
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
            # A policy or a proxy may forbid this request.
            return self._read_by_guess(path, version)
        mount = str(mounted["path"]).rstrip("/")
        rest = path.removeprefix(mount).lstrip("/")
        options = mounted.get("options")
        if isinstance(options, Mapping) and options.get("version") == "2":
            return self._read_versioned(mount, rest, version)
        return self._data(f"/v1/{mount}/{rest}")

    def _read_by_guess(self, path: str, version: str | None) -> Mapping[str, Any]:
        """Read with the first part of the path as the mount; try engine 2, then engine 1."""
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


def _lease(found: Mapping[str, Any]) -> _Lease | None:
    """Return the lease of a token; None: it cannot be renewed, or never expires."""
    seconds = float(found.get("ttl") or 0)
    if not found.get("renewable") or seconds <= 0:
        return None
    return _Lease(monotonic() + seconds, seconds)


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
