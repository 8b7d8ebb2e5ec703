"""Whether a byte left the machine: what an HTTP client's error proves."""

from __future__ import annotations

# Raised before anything is written: name look-up, connect, TLS handshake, waiting for a free
# connection. Told by name, so that no HTTP client has to be imported to ask.
_BEFORE_SENDING = frozenset(
    {
        "Elsewhere",  # keybrake itself: see _wires
        "NewConnectionError",  # urllib3
        "NameResolutionError",
        "ConnectTimeoutError",
        "ConnectTimeout",  # requests, httpx
        "ConnectError",  # httpx, httpcore
        "PoolTimeout",
        "ClientConnectorError",  # aiohttp
        "ClientConnectorDNSError",
        "ClientConnectorCertificateError",
        "ConnectionTimeoutError",
        "gaierror",
        "ConnectionRefusedError",
    }
)


# Raised once something may have been written. Whatever stands behind one of these, in its cause
# or context, is not the reason.
_AFTER_SENDING = frozenset(
    {
        "ReadTimeoutError",  # urllib3
        "ProtocolError",
        "IncompleteRead",
        "SSLError",
        "ReadTimeout",  # requests, httpx
        "ChunkedEncodingError",
        "ContentDecodingError",
        "ReadError",  # httpx, httpcore
        "WriteError",
        "WriteTimeout",
        "RemoteProtocolError",
        "LocalProtocolError",
        "ServerDisconnectedError",  # aiohttp
        "ServerTimeoutError",
        "SocketTimeoutError",
        "ClientPayloadError",
        "RemoteDisconnected",  # http.client
        "ConnectionResetError",
        "BrokenPipeError",
    }
)


def never_left(error: BaseException | None, handled: BaseException | None = None) -> bool:
    """
    Return whether *error* proves that its HTTP attempt sent nothing.

    Whatever is not known counts as sent.

    Args:
        error: The error that the SDK raised for the attempt.
        handled: The error that the caller was handling at the call: Python chains it, too,
            and it proves nothing about the call.
    """
    seen: set[int] = set()
    while error is not None and error is not handled and id(error) not in seen:
        seen.add(id(error))
        name = type(error).__name__
        if name in _BEFORE_SENDING:
            return True
        if name in _AFTER_SENDING:
            return False
        error = _inner(error)
    return False


def _inner(error: BaseException) -> BaseException | None:
    # requests and urllib3 keep the reason as an argument or attribute rather than as a cause.
    for found in (getattr(error, "reason", None), *error.args):
        if isinstance(found, BaseException):
            return found
    return error.__cause__ or error.__context__
