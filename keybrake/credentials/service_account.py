"""Read 1Password secrets with a service account, through the package ``onepassword-sdk``."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from onepassword import Client

from keybrake.credentials.source import SourceFailed

_TIMEOUT_S = 10.0
_LONGEST = 200

# Id of the first process that used the package. In a fork of it the package's threads are missing, so
# a request would never return.
_asked_in: int | None = None


def resolve(asked: str, token: str) -> str:
    """
    Return the secret at ``op://VAULT/ITEM/FIELD``.

    Args:
        asked: The reference, in 1Password's notation.
        token: The token of the service account.

    Raises:
        SourceFailed: 1Password returns an error, or no answer in time.
    """
    global _asked_in  # noqa: PLW0603 -- the package's threads exist once per process
    _asked_in = _asked_in or os.getpid()
    if os.getpid() != _asked_in:
        msg = "cannot be read: this process was forked from one that had asked 1Password"
        raise SourceFailed(msg)

    def run() -> str:
        return asyncio.run(asyncio.wait_for(_resolved(asked, token), _TIMEOUT_S))

    try:
        # In a new thread: asyncio.run() fails if an event loop already runs in this one.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()
    except TimeoutError:
        msg = f"was not returned: 1Password did not answer within {_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 -- the package raises plain Exception
        msg = f"was not returned: {_error_text(error, token)}"
    raise SourceFailed(msg)


async def _resolved(asked: str, token: str) -> str:
    client = await Client.authenticate(token, "keybrake", f"v{version('keybrake')}")
    try:
        return str(await client.secrets.resolve(asked))
    finally:
        client._finalizer()  # noqa: SLF001 -- otherwise the package frees the client only at exit


def _error_text(error: Exception, token: str) -> str:
    """Return 1Password's message; for other errors only the class, as the text may quote a secret."""
    text = str(error)
    if type(error) is not Exception or token in text:
        return type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
