"""What an SDK handed to its HTTP client, and whether that is what the client sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from keybrake.sdk._headers import STEERING, name_of

# What a client may leave as it is when it writes a path in ASCII.
_AS_IT_IS = "/%:@!$&'()*+,;=~"


class Handed(NamedTuple):
    """
    One request, as far as a session's own headers, parameters or rewriting could make another of it.

    Attributes:
        method: In capitals.
        path: Without the query.
        query: Its names and values, in order of names.
        steering: The headers that say for whom and to which method or path a request is, by name.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    steering: Mapping[str, str]


def handed(method: object, url: str, headers: Mapping[Any, Any], params: Any = None) -> Handed:
    """
    Return a request as its HTTP client has it.

    Args:
        method: Its method.
        url: Where to, absolute.
        headers: All of them.
        params: What the client is to add to the query, if anything.
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    # Some servers take an underscore for a hyphen.
    given = ((name_of(name).replace("_", "-"), _text(value)) for name, value in headers.items())
    steering = dict(given)
    host = steering.pop("host", parts.netloc)
    if host != parts.netloc:
        steering["host"] = host
    return Handed(
        str(method).upper(),
        quote(parts.path, safe=_AS_IT_IS),
        tuple(sorted([*query, *_pairs(params)])),
        {name: value for name, value in steering.items() if name in STEERING or name == "host"},
    )


def difference(was: Handed, now: Handed) -> str | None:
    """Return in what a request is another than the SDK's; None: it is the same."""
    if (now.method, now.path) != (was.method, was.path):
        return f"it would be {now.method} {now.path!a:.100}"
    if now.query != was.query:
        return "it would have other parameters in its address"
    changed = sorted(dict(set(now.steering.items()) ^ set(was.steering.items())))
    return f"it would have another header {changed[0]!r}" if changed else None


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _pairs(params: Any) -> Iterable[tuple[str, str]]:
    if isinstance(params, str | bytes):
        yield from parse_qsl(_text(params), keep_blank_values=True)
        return
    for name, value in params.items() if isinstance(params, Mapping) else params or ():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one is not None:
                yield _text(name), _text(one)
