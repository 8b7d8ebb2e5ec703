"""The request that an SDK handed to its HTTP client, compared with the one that the client sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from keybrake.sdk.extra_headers import STEERING, name_of


class Handed(NamedTuple):
    """
    One request, as far as a session's own headers, parameters or rewriting could make another of it.

    Attributes:
        method: In capitals.
        origin: Scheme, host and port.
        path: Its segments, decoded: clients write one segment in several ways.
        query: Its names and values, in order of names; None: they cannot be told.
        steering: The headers that say for whom and to which method or path a request is, by name.
        shown: The path as it is written.
    """

    method: str
    origin: str
    path: tuple[bytes, ...]
    query: tuple[tuple[str, str], ...] | None
    steering: Mapping[str, str]
    shown: str


def handed(method: object, url: str, headers: Mapping[Any, Any], params: Any = None) -> Handed:
    """
    Return a request as its HTTP client has it.

    Args:
        method: Its method.
        url: Where to, absolute.
        headers: All of them.
        params: Parameters that the client adds to the query, if any.
    """
    parts = urlsplit(url)
    query, more = parse_qsl(parts.query, keep_blank_values=True), _pairs(params)
    # Some servers take an underscore for a hyphen.
    given = ((name_of(name).replace("_", "-"), _text(value)) for name, value in headers.items())
    steering = dict(given)
    host = steering.pop("host", parts.netloc)
    if host != parts.netloc:
        steering["host"] = host
    return Handed(
        str(method).upper(),
        f"{parts.scheme}://{parts.netloc}",
        tuple(map(unquote_to_bytes, parts.path.split("/"))),
        None if more is None else tuple(sorted([*query, *more])),
        {name: value for name, value in steering.items() if name in STEERING or name == "host"},
        parts.path,
    )


def difference(was: Handed, now: Handed) -> str | None:
    """
    Return how a request differs from the SDK's; None: it does not.

    Where a client of the user's takes it to another host, that host says what its paths mean; the
    operator has named it.
    """
    here = now.origin == was.origin
    if now.method != was.method or (here and now.path != was.path):
        return f"it would be {now.method} {now.shown!a:.100}"
    if here and None not in (was.query, now.query) and now.query != was.query:
        return "it would have other parameters in its address"
    changed = sorted(dict(set(now.steering.items()) ^ set(was.steering.items())))
    return f"it would have another header {changed[0]!r}" if changed else None


def is_same_call(was: Handed, now: Handed) -> bool:
    """Return whether a request asks the vendor for the same as the SDK's."""
    return (now.method, now.origin, now.path) == (was.method, was.origin, was.path)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _pairs(params: Any) -> list[tuple[str, str]] | None:
    """Return names and values; None: they could be read only once, or not at all."""
    if isinstance(params, bytes):
        params = params.decode("utf-8", "replace")
    if isinstance(params, str):
        return parse_qsl(params, keep_blank_values=True)
    if not isinstance(params, Mapping | list | tuple | None):
        return None
    found: list[tuple[str, str]] = []
    for name, value in params.items() if isinstance(params, Mapping) else params or ():
        many = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        if any(one is not None and not isinstance(one, str | bytes | int | float) for one in many):
            return None
        found += [(_text(name), _text(one)) for one in many if one is not None]
    return found
