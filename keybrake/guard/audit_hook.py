"""The audit hook: which connections to a vendor no guarded call makes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from keybrake.config import started_under
from keybrake.errors import CallRefused
from keybrake.guard import caller as callers
from keybrake.guard import unentered_runs, unguarded_connections
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")

# A host, with its port where the event names one.
Place = tuple[str, object]

_added = False
_on = False


def add() -> None:
    """Add the audit hook to this process, once; Python has no way to take one out."""
    global _added  # noqa: PLW0603 -- one hook per process
    if not _added:
        _added = True
        sys.addaudithook(_hook)


def switch_on() -> None:
    """Notice connections from here on."""
    global _on  # noqa: PLW0603 -- one switch per process
    add()
    _on = True


def switch_off() -> None:
    """Let every connection be."""
    global _on  # noqa: PLW0603 -- one switch per process
    _on = False
    unguarded_connections.forget()


def _text(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode("ascii", "replace")
    return host if isinstance(host, str) else ""


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _looked_up(args: tuple[Any, ...]) -> Place:
    """Return the name that is looked up; an address is seen when it is connected to."""
    host = _text(args[0])
    return ("" if _is_address(host) else host), (args[1] if len(args) > 1 else None)


def _connected(args: tuple[Any, ...]) -> Place:
    """Return the host that a socket connects to, if it is one of the internet."""
    address = args[1]
    if isinstance(address, tuple) and len(address) >= 2:
        return _text(address[0]), address[1]
    return "", None


def _tunnelled(args: tuple[Any, ...]) -> Place:
    """Return the host that an HTTP connection goes on to from its proxy."""
    return _text(getattr(args[0], "_tunnel_host", None)), getattr(args[0], "_tunnel_port", None)


# Each connection raises one of these for its name or one for its address, and seldom both.
_READERS: Mapping[str, Callable[[tuple[Any, ...]], Place]] = {
    "socket.getaddrinfo": _looked_up,
    "socket.gethostbyname": _looked_up,
    "socket.connect": _connected,
    "http.client.connect": _tunnelled,
}


def _hook(
    event: str,
    args: tuple[Any, ...],
    readers: Mapping[str, Callable[[tuple[Any, ...]], Place]] = _READERS,
) -> None:
    """Look at one audit event; Python raises thousands of other kinds, so those cost the least."""
    reader = readers.get(event)
    if reader is None or not (_on or unentered_runs.any_waits()):
        return
    try:
        host, port = reader(args)
        vendors = hosts.vendors_at(host, port) if host else []
        if vendors:
            _judge(vendors, host, port)
    except CallRefused:
        raise
    except Exception as error:  # noqa: BLE001 -- a mistake here must not become one of the user's
        _log.warning("a connection could not be judged: %r", error)


def _judge(vendors: list[str], host: str, port: object) -> None:
    """Say whose the connection is; notice it if it is no guarded call's."""
    frame, run, tool, allowed = callers.active.known(), None, None, None
    if any(wire.vendor in vendors for wire in callers.on_the_wire()):
        return
    for around in callers.frames(frame):
        if isinstance(around, callers.ToolFrame):
            tool = tool or around.name
        elif isinstance(around, callers.UnguardedFrame):
            allowed = around.why if tool is None else None
            run = callers.run_around(around.outer)
            break
        else:
            run = around
            break
    place = caller()
    if frame is None and place is None and any(map(callers.is_called, vendors)):
        return  # a thread without any context: a resolver's, which works for the calls of others
    named = host if port is None else f"{host}:{port}"
    if _on and (run or tool or allowed or callers.open_runs or started_under.vault_keys()):
        unguarded_connections.notice(
            unguarded_connections.Connection(
                vendors[0], named, place, run, tool, allowed, _is_address(host)
            )
        )
    else:
        unentered_runs.warn_of_call(f"a connection to {named} was made unguarded")


# Modules of HTTP libraries, and of the layers between them and the code that asks.
_LIBRARIES = frozenset(sys.stdlib_module_names) | {
    *("keybrake", "wrapt", "greenlet", "gevent", "eventlet", "trio", "anyio", "sniffio", "outcome"),
    *("urllib3", "requests", "requests_toolbelt", "niquests", "urllib3_future", "httplib2"),
    *("httpx", "httpcore", "httpx2", "httpcore2", "aiohttp", "aiohappyeyeballs", "uvloop"),
    *("tornado", "twisted", "treq", "tenacity", "backoff", "stamina", "vcr", "responses"),
    *("opentelemetry", "sentry_sdk", "ddtrace", "newrelic", "elasticapm", "logfire"),
}


def caller() -> tuple[str, int] | None:
    """Return file and line of the code that wants this connection; None: only libraries do."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- the only way to look at one's callers
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name == "__main__" or name.partition(".")[0] not in _LIBRARIES:
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None
