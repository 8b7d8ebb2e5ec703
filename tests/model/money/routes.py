"""Which function of the stub answers which request, and how a form is written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from tests.model.money.world import Declined, Object, World

Handler = Callable[..., Object]


class Route(NamedTuple):
    """One method and path. *name* is the method of the SDK that sends it."""

    name: str
    method: str
    pattern: str
    handler: Handler


ROUTES: dict[str, Route] = {}


def route(name: str, method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Let a function answer a method and path; it is given the world, the form and the ids."""

    def registered(handler: Handler) -> Handler:
        ROUTES[name] = Route(name, method, pattern, handler)
        return handler

    return registered


def readable(name: str, pattern: str, kind: str, view: Callable[[World, Object], Object]) -> None:
    """Let objects of a kind be retrieved, and listed by the values of their fields."""

    @route(f"{name}.retrieve", "GET", f"{pattern}/{{}}")
    def retrieve(world: World, form: Mapping[str, Any], object_id: str) -> Object:
        del form
        return view(world, world.get(object_id, kind))

    @route(f"{name}.list", "GET", pattern)
    def listed(world: World, form: Mapping[str, Any]) -> Object:
        shown = [view(world, made) for made in reversed(world.all(kind))]
        return page(pattern, [one for one in shown if _fits(one, form)], form)


_NO_FIELDS = {"limit", "expand", "starting_after", "ending_before"}


def _fits(shown: Object, form: Mapping[str, Any]) -> bool:
    for name, value in form.items():
        if name == "pending":
            if (shown.get("invoice") is None) != (value == "true"):
                return False
        elif name == "status" and value == "all":
            continue
        elif name not in _NO_FIELDS and str(shown.get(name)) != str(value):
            return False
    return True


def page(url: str, shown: list[Object], form: Mapping[str, Any]) -> Object:
    """Return one page of a list, as long as the form asks for."""
    ids, after = [one["id"] for one in shown], form.get("starting_after")
    start = ids.index(after) + 1 if after in ids else 0
    end = start + int(form.get("limit", 10))
    return {
        "object": "list",
        "url": url,
        "has_more": end < len(shown),
        "data": shown[start:end],
    }


def answer(world: World, method: str, path: str, form: Mapping[str, Any]) -> tuple[int, Object]:
    """Carry a request out, and return status and body of the answer."""
    for found in ROUTES.values():
        ids = _ids(found, method, path)
        if ids is None:
            continue
        try:
            return 200, json.loads(json.dumps(_public(found.handler(world, form, *ids))))
        except Declined as no:
            return no.status, error("invalid_request_error", str(no))
    return 404, error("invalid_request_error", f"Unrecognized request URL ({method}: {path})")


def error(kind: str, message: str) -> Object:
    """Return the body of an error."""
    return {"error": {"type": kind, "message": message}}


def _ids(found: Route, method: str, path: str) -> list[str] | None:
    wanted, given = found.pattern.split("/"), path.split("/")
    if found.method != method or len(wanted) != len(given):
        return None
    pairs = list(zip(wanted, given, strict=True))
    if any(want not in ("{}", have) for want, have in pairs):
        return None
    # An id has a number in it: /v1/invoices/create_preview names no invoice.
    ids = [have for want, have in pairs if want == "{}"]
    return ids if all(re.search(r"\d", one) for one in ids) else None


def _public(made: Any) -> Any:
    """Return an answer without the fields that only the stub keeps."""
    if isinstance(made, dict):
        return {name: _public(made[name]) for name in made if not name.startswith("_")}
    return [_public(one) for one in made] if isinstance(made, list) else made


def read_form(text: str) -> Object:
    """Return a form as nested mappings: ``a[b]=1`` is ``{"a": {"b": "1"}}``."""
    form: Object = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        place, parts = form, re.findall(r"[^\[\]]+", name)
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return form


def as_sent(params: Mapping[str, Any], path: str) -> Object:
    """Return parameters as the stub reads them when they were sent."""
    if path.startswith("/v2/"):
        return json.loads(json.dumps(params))
    return read_form(urlencode(list(_flat(params))))


def _flat(value: Any, outer: str = "") -> Iterator[tuple[str, str]]:
    numbered = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(numbered, Mapping):
        for name, inner in numbered.items():
            yield from _flat(inner, f"{outer}[{name}]" if outer else str(name))
    elif isinstance(value, bool):
        yield outer, "true" if value else "false"
    else:
        yield outer, str(value)
