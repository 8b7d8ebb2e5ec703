"""What 1Password gives a service account, by the package ``onepassword-sdk``."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from onepassword import Client

from keybrake.credentials.source import SourceFailed

_TIMEOUT_S = 10.0
_LONGEST = 200

# The process that asked first. In one that was forked from it the package's threads are missing, and
# nothing would ever be answered.
_asked_in: int | None = None


def resolve(asked: str, token: str) -> str:
    """
    Return what ``op://VAULT/ITEM/FIELD`` leads to.

    Args:
        asked: The reference, as 1Password writes it.
        token: The service account's.

    Raises:
        SourceFailed: 1Password does not give it, or not in time.
    """
    global _asked_in  # noqa: PLW0603 -- the package's threads are one per process, too
    _asked_in = _asked_in or os.getpid()
    if os.getpid() != _asked_in:
        msg = "cannot be asked for: this process was forked from one that had asked 1Password"
        raise SourceFailed(msg)

    def run() -> str:
        return asyncio.run(asyncio.wait_for(_resolved(asked, token), _TIMEOUT_S))

    try:
        # In a thread of its own: in this one somebody's event loop may be running.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()
    except TimeoutError:
        msg = f"was not given: 1Password did not answer within {_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 -- the package has no class for its errors
        msg = f"was not given: {_said(error, token)}"
    raise SourceFailed(msg)


async def _resolved(asked: str, token: str) -> str:
    client = await Client.authenticate(token, "keybrake", f"v{version('keybrake')}")
    try:
        return str(await client.secrets.resolve(asked))
    finally:
        client._finalizer()  # noqa: SLF001 -- by itself it lets go of nothing before the process ends


def _said(error: Exception, token: str) -> str:
    """Return 1Password's own words; another package's error may quote the secret."""
    text = str(error)
    if type(error) is not Exception or token in text:
        return type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
