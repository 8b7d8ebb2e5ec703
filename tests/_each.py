"""A table of cases that one test goes through, and that names every case which fails."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

_SHOWN = 600  # characters of what went wrong with one case


def each(
    names: str | Iterable[str],
    cases: Iterable[Any],
    ids: Callable[[Any], object] | Iterable[str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Return a decorator that is used like ``pytest.mark.parametrize`` and makes one test of all cases.

    It is for tables whose cases share no state: setting up and reporting a test takes longer than
    such a case does. A failure is named with its case, and the cases after it are tried as well.
    """
    given = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = _named(given, list(cases), ids)
    if not table:
        msg = f"there is no case of {', '.join(given)}"
        raise ValueError(msg)

    def around(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def all_of_them(**others: Any) -> None:
            failed: dict[str, BaseException] = {}
            for name, case in table:
                try:
                    test(**others, **case)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 -- told below, each with its case
                    failed[name] = error
            if failed:
                raise AssertionError(_said(failed, len(table))) from next(iter(failed.values()))

        signature = inspect.signature(test)
        left = [one for name, one in signature.parameters.items() if name not in given]
        # Else pytest would look for fixtures by the names of the table.
        all_of_them.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return all_of_them

    return around


def _named(
    names: list[str], cases: list[Any], ids: Callable[[Any], object] | Iterable[str] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    listed = None if ids is None or callable(ids) else list(ids)
    table = []
    for number, case in enumerate(cases):
        name = None if listed is None else listed[number]
        values = [case] if len(names) == 1 else list(case)
        if isinstance(case, type(pytest.param())):
            name, values = case.id or name, list(case.values)
        if name is None:
            name = "-".join(str(ids(one)) if callable(ids) else repr(one) for one in values)
        table.append((name, dict(zip(names, values, strict=True))))
    return table


def _said(failed: Mapping[str, BaseException], of: int) -> str:
    lines = [f"{len(failed)} of {of} cases fail"]
    for name, error in failed.items():
        # Only the innermost table knows how to shorten what its cases say.
        words = str(error) if isinstance(error, AssertionError) else repr(error)
        lines.append(f"[{name}] {words if words[:1].isdigit() else words[:_SHOWN]}")
    return "\n".join(lines)
