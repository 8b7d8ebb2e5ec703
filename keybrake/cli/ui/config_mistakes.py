"""Find every mistake in a ``keybrake.toml``, each with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from keybrake.cli.ui import toml_lines
from keybrake.cli.ui.toml_lines import KeyPath
from keybrake.config import settings
from keybrake.config.settings import Config
from keybrake.errors import PolicyError
from keybrake.model.shown import NOT_SHOWN, shown, without_secrets
from keybrake.policy.policy import Policy
from keybrake.runs import arguments

_PLACE = re.compile(r" \(at line ([0-9]+), column ([0-9]+)\)$")
_LIMITS = {"cap", "max_calls"}
_MOST_BYTES = 2**20  # a device may have no end
_LEDGER = "sqlite:///ledger.db"

_DECIMAL = re.compile(r"Decimal\('([^']*)'\)")


class Mistake(NamedTuple):
    """One mistake, with its place in the file."""

    file: str
    line: int
    message: str


def read(file: Path) -> bytes:
    """Return the bytes of a file; of a file that is too long, enough for ``mistakes`` to notice."""
    with file.open("rb") as opened:
        return opened.read(_MOST_BYTES + 1)


def config_of(data: bytes, file: str) -> Config:
    """Return the configuration in a ``keybrake.toml`` without mistakes."""
    given = tomllib.loads(data.decode(), parse_float=Decimal)
    return settings.parse(given, source=file, default=Config(ledger=_LEDGER))


def mistakes(data: bytes, file: str) -> list[Mistake]:
    """Return every mistake in the bytes of a ``keybrake.toml``; if there is none, every run can use it."""
    if len(data) > _MOST_BYTES:
        return [Mistake(file, 1, "is longer than 1 MiB; is it the right file?")]
    try:
        text = data.decode()
        given = tomllib.loads(text, parse_float=Decimal)
        found = toml_lines.lines(text)
    except (ValueError, RecursionError) as error:
        return [_unreadable(data, file, error)]
    told = {
        Mistake(file, toml_lines.line_of(found, path), message): None
        for path, message in _Checker(file).check((), given)
    }
    return sorted(told, key=lambda mistake: mistake.line)


def _unreadable(data: bytes, file: str, error: Exception) -> Mistake:
    """Return the mistake for a file that is not TOML at all."""
    if isinstance(error, UnicodeDecodeError):
        line = data.count(b"\n", 0, error.start) + 1
        return Mistake(file, line, "this is no text in UTF-8; save the file as UTF-8")
    if isinstance(error, RecursionError):
        return Mistake(file, 1, "brackets are nested too deeply")
    words = without_secrets(str(error))
    place = _PLACE.search(words)
    if place is None:
        return Mistake(file, max(1, len(data.splitlines())), f"cannot be read as TOML: {words}")
    why = f"cannot be read as TOML: {words[: place.start()]}, in column {place[2]}"
    return Mistake(file, int(place[1]), why)


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checks each part of a configuration alone, so that the first error does not hide the others."""

    file: str

    def check(self, path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
        """Yield path and text of every mistake in *value*, the value at *path*."""
        found = []
        if self._has_parts(path, value):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            found = [one for key, part in parts for one in self.check((*path, key), part)]
            found += self._unsaid(path, value)
        # Keys that are valid alone may conflict.
        if not found and (why := self._judge(path, value)):
            found = [(path, why)]
        yield from found

    def _has_parts(self, path: KeyPath, value: Any) -> bool:
        """Return whether *value* is a table or list with parts that can be checked one by one."""
        if not isinstance(value, Mapping | list) or not value:
            return False
        match path:
            case ("policies", _) | ("policies", _, "limits"):
                return isinstance(value, Mapping)
            case ("policies", _, "limits", _):
                return isinstance(value, Mapping) and not self._judge(path, {"max_calls": 1})
            case ("policies", _, field, *_):
                return isinstance(value, list) and field == "allow"
        return not self._judge(path, type(value)())

    def _unsaid(self, path: KeyPath, value: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        """Yield a mistake for a required key that a policy or limit lacks."""
        match path:
            case ("policies", _):
                silent = "cap" not in value
            case ("policies", _, "limits", _):
                silent = not _LIMITS & set(value)
            case _:
                silent = False
        if silent and (why := self._judge(path, {})):
            yield path, why

    def _judge(self, path: KeyPath, value: Any) -> str | None:
        """Return why *value* is not valid at *path*; None if it is."""
        try:
            match path:
                case ("policies", name, *rest) if rest or isinstance(value, Mapping):
                    _judge_policy(str(name), _policy_table(tuple(rest), value))
                case _:
                    default = Config(ledger=_LEDGER)
                    settings.parse(_nested(path, value), source=self.file, default=default)
        except PolicyError as error:
            return _words(error, path, value).removeprefix(f"{self.file}: ")
        return None


def _words(error: PolicyError, path: KeyPath, value: Any) -> str:
    """Return the text of an error in terms of the file, without any text of a credential."""
    words = _DECIMAL.sub(r"\1", str(error))
    if path[:1] == ("credentials",):
        for text in _texts(value):
            words = words.replace(shown(text), NOT_SHOWN)
    return without_secrets(words)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)


def _judge_policy(name: str, table: Mapping[str, Any]) -> None:
    where = f"policies.{name}"
    policy = Policy.from_mapping(table, where=where)
    try:
        arguments.policy_from(policy, {})
    except PolicyError as error:
        msg = f"{where}: {error}"
        raise PolicyError(msg) from None


def _policy_table(path: KeyPath, value: Any) -> Mapping[str, Any]:
    """Return a policy with only *value* and the keys that every policy and limit must have."""
    if not path:
        return dict(value)
    match path:
        case ("limits", pattern, key) if key not in _LIMITS:
            return {"cap": "none", "limits": {pattern: {"max_calls": 1, key: value}}}
    return {"cap": "none", **_nested(path, value)}


def _nested(path: KeyPath, value: Any) -> Any:
    for key in reversed(path):
        value = [value] if isinstance(key, int) else {key: value}
    return value
