"""
Credentials for child processes: ``keybrake exec`` serves them to callers with a valid vault key.

It also sends the configuration it read at its start, to any process of the same user.
"""

from __future__ import annotations

import json
import os
import socketserver
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from keybrake.config import parent_process
from keybrake.config.config_file import Written
from keybrake.credentials.secret import Credential, Secret
from keybrake.credentials.store import Kept
from keybrake.errors import CredentialError, KeybrakeError

_MOST_BYTES = 16 * 1024
# The path of a Unix socket may have 108 bytes, on macOS 104, including the final zero byte.
_LONGEST_ADDRESS = 100


class Known(Protocol):
    """A provider of credentials: the sources in this process, or the broker in another process."""

    def kept(self, vendor: str) -> Credential | None:
        """Return the cached credential, without waiting; None: it is not cached."""

    def get(self, vendor: str, refused: Credential | None = None) -> Credential:
        """Return the credential, or raise ``CredentialError``."""


class Broker:
    """
    Serves credentials, over a Unix socket that only this user can open, to callers with a vault key.

    Args:
        known: The provider of the credentials.
        written: The configuration to send.
        may: Returns why the caller with this vault key gets no credential; None: it gets them.

    Raises:
        OSError: The socket cannot be created.
    """

    def __init__(self, known: Known, written: Written, may: Callable[[str], str | None]) -> None:
        self._known, self._written, self._may = known, written, may
        self._folder, self.address = _private_folder()
        try:
            self._server = _Server(self.address, self._answer)
        except OSError:
            self._folder.cleanup()
            raise
        self._serving = False

    def serve(self) -> None:
        """Start a thread that answers requests."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._serving = True

    def __enter__(self) -> Self:
        """Return the broker; the block closes it at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket and delete its folder; later requests fail to connect."""
        if self._serving:
            self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, str]:
        if asked.get("what") == "configuration":
            file, text = self._written
            return {"file": str(file or ""), "text": text}
        vendor = str(asked.get("vendor", ""))
        try:
            if (why := self._may(str(asked.get("key", "")))) is not None:
                return {"error": why}
            found = self._known.get(vendor)
            if found.fingerprint == asked.get("refused"):
                found = self._known.get(vendor, found)
        except KeybrakeError as error:
            return {"error": str(error)}
        return {"secret": str(found.secret), "user": found.user}


def _private_folder() -> tuple[tempfile.TemporaryDirectory[str], str]:
    """Create a folder that only this user can open; return it and the path of a socket in it."""
    # TMPDIR may be too long for a socket path, on macOS for example. Then use /tmp.
    for parent in (None, "/tmp"):  # noqa: S108 -- tempfile creates a private folder in it
        folder = tempfile.TemporaryDirectory("", "keybrake-", parent, ignore_cleanup_errors=True)
        address = str(Path(folder.name) / "credentials")
        if len(os.fsencode(address)) <= _LONGEST_ADDRESS:
            break
        folder.cleanup()
    return folder, address


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    # All threads and processes of an agent may connect at the same moment.
    request_queue_size = 1024
    block_on_close = False

    def __init__(self, address: str, answer: Callable[[Mapping[str, Any]], dict[str, str]]) -> None:
        self.answer = answer
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback: stderr belongs to the agent as well."""


class _Handler(socketserver.StreamRequestHandler):
    timeout = parent_process.PATIENCE_S

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        asked = json.loads(self.rfile.readline(_MOST_BYTES))
        self.wfile.write(json.dumps(server.answer(asked)).encode() + b"\n")


class Brokered(Kept):
    """
    Credentials from the ``Broker`` of another process.

    Args:
        address: Path of its socket.
        key: The vault key to send.
        ttl_s: Seconds for which a credential is cached.
    """

    def __init__(self, address: str, key: str, ttl_s: float) -> None:
        super().__init__(ttl_s)
        self._address, self._key = address, key

    def _fetch(self, vendor: str, refused: Credential | None) -> Credential:
        answer = self._ask(vendor, refused)
        if "secret" not in answer:
            raise CredentialError(answer.get("error", f"no credential for {vendor} was given out"))
        return Credential(Secret(answer["secret"]), answer.get("user", ""))

    def _ask(self, vendor: str, refused: Credential | None) -> dict[str, str]:
        asked = {"key": self._key, "vendor": vendor}
        if refused is not None:
            asked["refused"] = refused.fingerprint
        try:
            return parent_process.ask(self._address, asked)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it does not answer"
            msg = f"no credential for {vendor}: the keybrake exec that started this process: {why}"
            raise CredentialError(msg) from None
