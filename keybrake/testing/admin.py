"""Serve the admin pages of a fake: other processes read its journal or inject faults."""

import json
from collections.abc import Callable
from typing import Any, Final

from keybrake.testing.faults import Fault
from keybrake.testing.journal import Journal, as_dicts
from keybrake.testing.server import Request, Response

PREFIX: Final = "/_fake/"


def answer(
    request: Request,
    journal: Journal,
    inject: Callable[[Fault, int | None], None],
    chaos: Callable[..., None],
) -> Response:
    """
    Answer a request to one of the admin pages.

    ``GET /_fake/journal`` returns the journal's entries. ``POST /_fake/faults`` takes a list of
    objects, each with the fields of ``Fault`` (without ``when``) and ``times``.
    ``POST /_fake/chaos`` takes ``rate``, ``seed``, ``kinds`` and ``hang``.
    """
    try:
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "journal":
                return Response.of_json(200, as_dicts(journal.entries))
            case "POST", "faults":
                for fault, times in [_fault(facts) for facts in json.loads(request.body)]:
                    inject(fault, times)
                return Response.of_json(200, {})
            case "POST", "chaos":
                chaos(**json.loads(request.body))
                return Response.of_json(200, {})
            case _:
                return Response.of_json(404, {"error": f"no such page: {request.path}"})
    except (TypeError, ValueError) as error:
        return Response.of_json(400, {"error": str(error)})


def _fault(facts: dict[str, Any]) -> tuple[Fault, int | None]:
    fields = {name: value for name, value in facts.items() if name != "times"}
    return Fault(**fields), facts.get("times", 1)
