"""How a credential is written down without being written down: ``vault://secret/stripe#/api_key``."""

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
"""Entry points of this group: a scheme, and a class that is a ``keybrake.credentials.Source``."""

_EXAMPLE = '"env://NAME_OF_A_VARIABLE"'


class Unreadable(Exception):
    """What a source holds is not what the reference says; the text carries nothing of it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    Where a secret is kept.

    Attributes:
        scheme: Which source keeps it.
        path: Where in that source, as written.
        params: What else that source has to know.
        keys: Of a secret that is a JSON object, the way to the value: ``#/a/b``.
    """

    scheme: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()

    def param(self, name: str) -> str | None:
        """Return a parameter; of two with one name the last."""
        return dict(self.params).get(name)

    def pick(self, text: str) -> str:
        """
        Return the value that *keys* lead to in *text*, a JSON object; without keys, *text*.

        Raises:
            Unreadable: It is no JSON object, or has no such value.
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
        Return the value that *keys* lead to in an object.

        Raises:
            Unreadable: It has no such value, or one that is no text.
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
        """Return the keys as they are written: ``#/a/b``."""
        return f"#/{'/'.join(self.keys)}" if self.keys else ""

    @property
    def harmless(self) -> str:
        """Return it as people may see it: without what may be a secret, and of a command not its arguments."""
        if self.scheme != "exec" or not self.params:
            return without_secrets(str(self))
        bare = without_secrets(f"{self.scheme}://{self.path}")
        return f"{bare}?…{without_secrets(self.fragment)}"

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.params)
        return f"{self.scheme}://{self.path}{'?' if query else ''}{query}{self.fragment}"


def harmless(where: Reference | str) -> str:
    """Return a place, or what stands there itself, as people may see it."""
    return where.harmless if isinstance(where, Reference) else without_secrets(where)


def is_reference(text: object) -> bool:
    """Return whether *text* looks like a reference, whatever its scheme."""
    return isinstance(text, str) and _SHAPE.fullmatch(text) is not None


def parse(text: object, where: str) -> Reference:
    """
    Return the reference that *text* is.

    Args:
        text: ``SCHEME://PATH[?PARAMS][#/KEY…]``; ``ref+`` may stand before it.
        where: What the error text calls it.

    Raises:
        PolicyError: It is none. What it is instead is not repeated: it may be the secret itself.
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
    """Return what there is to read a reference, by scheme; nothing of it is loaded yet."""
    return {point.name: point for point in entry_points(group=GROUP)}


def readable(text: object, where: str) -> Reference:
    """
    Return the reference that *text* is, if there is a source for it; see ``parse``.

    Raises:
        PolicyError: It is no reference, or there is none.
    """
    reference = parse(text, where)
    if reference.scheme not in schemes():
        msg = (
            f"{where}: nothing here reads {shown(reference.scheme + '://')}; known are "
            f"{', '.join(f'{scheme}://' for scheme in sorted(schemes()))}"
        )
        raise PolicyError(msg)
    return reference
