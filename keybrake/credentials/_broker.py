"""Credentials for other processes: whoever started them has them, and gives them to whoever has the key."""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from keybrake.credentials._secret import Credential, Secret
from keybrake.errors import CredentialError

ADDRESS = "KEYBRAKE_CREDENTIALS"
"""The environment variable that says where to ask: the path of a Unix socket."""

# A source may take ten seconds to say that it does not answer.
_PATIENCE_S = 30.0
_MOST_BYTES = 16 * 1024


class Known(Protocol):
    """Whatever has credentials: a store of this process, or another process that is asked."""

    def kept(self, vendor: str) -> Credential | None:
        """Return the credential if it need not be asked for; this never waits."""

    def get(self, vendor: str, refused: Credential | None = None) -> Credential:
        """Return the credential, or raise ``CredentialError``."""


class Broker:
    """
    Serves credentials over a socket that only this user can reach, to whoever has the vault key.

    Args:
        known: Where they come from.
        key: The vault key that has to be shown.
        alive: Says why nothing is given out any more; None: it is.
    """

    def __init__(self, known: Known, key: str, alive: Callable[[], str | None]) -> None:
        self._known, self._key, self._alive = known, key, alive
        # A folder of its own, which tempfile makes for this user alone.
        self._folder = tempfile.TemporaryDirectory(prefix="keybrake-")
        self.address = str(Path(self._folder.name) / "credentials")
        self._server = _Server(self.address, self._answer)

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it; whoever asks from now on is told that nobody is there."""
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, str]:
        shown = str(asked.get("key", "")).encode("utf-8", "replace")
        if not hmac.compare_digest(shown, self._key.encode()):
            return {"error": "the vault key is not that of this run"}
        if (why := self._alive()) is not None:
            return {"error": why}
        vendor = str(asked.get("vendor", ""))
        try:
            found = self._known.get(vendor)
            if found.fingerprint == asked.get("refused"):
                found = self._known.get(vendor, found)
        except CredentialError as error:
            return {"error": str(error)}
        return {"secret": str(found.secret), "user": found.user}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, answer: Callable[[Mapping[str, Any]], dict[str, str]]) -> None:
        self.answer = answer
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of it: a traceback here would be the agent's to read."""


class _Handler(socketserver.StreamRequestHandler):
    timeout = _PATIENCE_S

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        asked = json.loads(self.rfile.readline(_MOST_BYTES))
        self.wfile.write(json.dumps(server.answer(asked)).encode() + b"\n")


class Brokered:
    """
    The credentials that another process gives out.

    Args:
        address: The path of its socket.
        key: The vault key to show.
        ttl_s: For how many seconds one is not asked for again.
    """

    def __init__(self, address: str, key: str, ttl_s: float) -> None:
        self._address, self._key, self._ttl_s = address, key, ttl_s
        self._kept: dict[str, tuple[Credential, float]] = {}

    def kept(self, vendor: str) -> Credential | None:
        """See ``Known.kept``."""
        found = self._kept.get(vendor)
        return None if found is None or time.monotonic() >= found[1] else found[0]

    def get(self, vendor: str, refused: Credential | None = None) -> Credential:
        """See ``Known.get``."""
        kept = self.kept(vendor)
        if kept is not None and kept != refused:
            return kept
        answer = self._ask(vendor, refused)
        if "secret" not in answer:
            raise CredentialError(answer.get("error", f"no credential for {vendor} was given out"))
        found = Credential(Secret(answer["secret"]), answer.get("user", ""))
        self._kept[vendor] = (found, time.monotonic() + self._ttl_s)
        return found

    def _ask(self, vendor: str, refused: Credential | None) -> dict[str, str]:
        asked = {"key": self._key, "vendor": vendor}
        if refused is not None:
            asked["refused"] = refused.fingerprint
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
                line.settimeout(_PATIENCE_S)
                line.connect(self._address)
                line.sendall(json.dumps(asked).encode() + b"\n")
                with line.makefile("rb") as answer:
                    found = json.loads(answer.readline(_MOST_BYTES))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it does not answer"
            msg = f"no credential for {vendor}: the keybrake exec that started this process: {why}"
            raise CredentialError(msg) from None
        return found if isinstance(found, dict) else {}
