"""Parse references to secrets, such as ``vault://secret/stripe#/api_key``."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from urllib.parse import parse_qsl, unquote

from keybrake.errors import PolicyError
from keybrake.model.shown import shown, without_secrets

# The grammar of helmfile's vals, https://github.com/helmfile/vals: ref+BACKEND://PATH?PARAMS#FRAGMENT.
_SHAPE = re.compile(
    r"(?:ref\+)?(?P<scheme>[a-z][a-z0-9]*)://(?P<path>[^?#\s]+)(?:\?(?P<params>[^#\s]*))?(?:#(?P<fragment>\S*))?"
)
GROUP = "keybrake.credentials"
"""Entry point group: the name is a scheme, the object a ``keybrake.credentials.Source`` class."""

_EXAMPLE = '"env://NAME_OF_A_VARIABLE"'


class Unreadable(Exception):
    """The secret does not have the keys of the reference. The text contains no part of the secret."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    The place of a secret.

    Attributes:
        scheme: Name of the source.
        path: Path in that source, as written.
        params: Further parameters for that source.
        keys: For a secret that is a JSON object, the keys that lead to the value: ``#/a/b``.
    """

    scheme: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()

    def param(self, name: str) -> str | None:
        """Return a parameter, the last one if it was given twice; None: it was not given."""
        return dict(self.params).get(name)

    def pick(self, text: str) -> str:
        """
        Return the value that *keys* lead to in *text*, a JSON object; without keys, *text*.

        Raises:
            Unreadable: *text* is not a JSON object, or has no such value.
        """
        if not self.keys:
            return text
        try:
            found: Any = json.loads(text)
        except ValueError:
            msg = f"is no JSON object, so it has no {self.fragment}"
            raise Unreadable(msg) from None
        return self.pick_from(found)

    def pick_from(self, found: Any) -> str:
        """
        Return the value that *keys* lead to in *found*.

        Raises:
            Unreadable: There is no such value, or it is not text.
        """
        for key in self.keys:
            if not isinstance(found, Mapping) or key not in found:
                msg = f"has no {self.fragment}"
                raise Unreadable(msg)
            found = found[key]
        if isinstance(found, bool) or not isinstance(found, str | int):
            msg = f"holds no text at {self.fragment or 'its top'}"
            raise Unreadable(msg)
        return str(found)

    @property
    def fragment(self) -> str:
        """Return the keys in the form of a reference: ``#/a/b``."""
        return f"#/{'/'.join(self.keys)}" if self.keys else ""

    @property
    def harmless(self) -> str:
        """Return the reference for display: secrets are redacted, arguments of a command left out."""
        if self.scheme != "exec" or not self.params:
            return without_secrets(str(self))
        bare = without_secrets(f"{self.scheme}://{self.path}")
        return f"{bare}?…{without_secrets(self.fragment)}"

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.params)
        return f"{self.scheme}://{self.path}{'?' if query else ''}{query}{self.fragment}"


def harmless(where: Reference | str) -> str:
    """Return a reference, or a plain value in its place, for display: secrets are redacted."""
    return where.harmless if isinstance(where, Reference) else without_secrets(where)


def is_reference(text: object) -> bool:
    """Return whether *text* looks like a reference, whatever its scheme."""
    return isinstance(text, str) and _SHAPE.fullmatch(text) is not None


def parse(text: object, where: str) -> Reference:
    """
    Parse *text* as a reference.

    Args:
        text: ``SCHEME://PATH[?PARAMS][#/KEY…]``, with an optional ``ref+`` in front.
        where: Name of the setting, for the error text.

    Raises:
        PolicyError: *text* is not a reference. The error does not repeat it: it may be the secret.
    """
    parts = _SHAPE.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        msg = (
            f"{where} is no reference to a secret; write where it is kept, such as {_EXAMPLE}, and not the "
            f"secret itself"
        )
        raise PolicyError(msg)
    params = tuple(parse_qsl(parts["params"] or "", keep_blank_values=True))
    keys = tuple(unquote(key) for key in (parts["fragment"] or "").split("/") if key)
    return Reference(parts["scheme"], unquote(parts["path"]), params, keys)


@functools.cache
def schemes() -> Mapping[str, EntryPoint]:
    """Return the entry points of all sources, by scheme, without loading them."""
    return {point.name: point for point in entry_points(group=GROUP)}


def readable(text: object, where: str) -> Reference:
    """
    Parse *text* as a reference, and check that a source for its scheme is installed.

    Raises:
        PolicyError: *text* is not a reference, or no source has its scheme.
    """
    reference = parse(text, where)
    if reference.scheme not in schemes():
        msg = (
            f"{where}: no source reads {shown(reference.scheme + '://')}; known are "
            f"{', '.join(f'{scheme}://' for scheme in sorted(schemes()))}"
        )
        raise PolicyError(msg)
    return reference
