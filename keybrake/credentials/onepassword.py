"""1Password: ``op://VAULT/ITEM/FIELD``, or ``onepasswordconnect://VAULT/ITEM#/FIELD`` (Connect)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from keybrake.config.references import Reference
from keybrake.credentials.exec import ExecSource
from keybrake.credentials.https import get_json
from keybrake.credentials.source import SourceFailed

# The format of ids of vaults and items.
_ID = re.compile(r"[a-z0-9]{26}")


class OpSource:
    """
    See ``Source``.

    With ``OP_SERVICE_ACCOUNT_TOKEN`` and the package ``onepassword-sdk`` it uses that service account.
    Without one of them it runs ``op read``, with the account that is signed in there.
    """

    # The op command uses a Connect server if OP_CONNECT_TOKEN is set.
    SECRETS: ClassVar[tuple[str, ...]] = ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN")

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        asked = str(Reference("op", reference.path, reference.params))
        token = os.environ.get("OP_SERVICE_ACCOUNT_TOKEN")
        if token:
            try:
                from keybrake.credentials import service_account
            except ImportError:
                pass  # the op command reads the same variable
            else:
                return reference.pick(service_account.resolve(asked, token))
        if shutil.which("op") is None:
            msg = (
                "cannot be read: there is no command op; install it, or "
                "pip install 'keybrake[onepassword]' and set OP_SERVICE_ACCOUNT_TOKEN"
            )
            raise SourceFailed(msg)
        words = f"read --no-newline {_quoted(asked)}"
        return ExecSource().fetch(Reference("exec", "op", (("args", words),), reference.keys))


class ConnectSource:
    """See ``Source``. Reads ``OP_CONNECT_HOST`` and ``OP_CONNECT_TOKEN``."""

    SECRETS: ClassVar[tuple[str, ...]] = ("OP_CONNECT_TOKEN",)

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        host, token = (os.environ.get(f"OP_CONNECT_{name}") for name in ("HOST", "TOKEN"))
        if not host or not token:
            msg = "has no server; set OP_CONNECT_HOST and OP_CONNECT_TOKEN"
            raise SourceFailed(msg)
        vault, _, item = reference.path.strip("/").partition("/")
        if not item or "/" in item or not 1 <= len(reference.keys) <= 2:
            msg = "is not VAULT/ITEM#/FIELD, or VAULT/ITEM#/SECTION/FIELD"
            raise SourceFailed(msg)
        server = _Server(host, token)
        vault_id = server.id_of("/v1/vaults", "name", vault)
        item_id = server.id_of(f"/v1/vaults/{vault_id}/items", "title", item)
        found = server.get(f"/v1/vaults/{vault_id}/items/{item_id}", {})
        return _field(found if isinstance(found, dict) else {}, reference.keys)


class _Server:
    def __init__(self, host: str, token: str) -> None:
        self._host, self._token = host, token

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        return get_json(self._host, path, query, self._token)

    def id_of(self, path: str, name: str, wanted: str) -> str:
        """Return the id of the vault or item named *wanted*; return *wanted* if it is an id."""
        if _ID.fullmatch(wanted):
            return wanted
        if '"' in wanted or "\\" in wanted:
            msg = f"has a {name} with a quote or backslash; write its id instead"
            raise SourceFailed(msg)
        found = self.get(path, {"filter": f'{name} eq "{wanted}"'})
        if not isinstance(found, list) or len(found) != 1:
            count = len(found) if isinstance(found, list) else 0
            msg = f"has a {name} that {count} have; name one by its id"
            raise SourceFailed(msg)
        return quote(str(found[0].get("id", "")), safe="")


def _field(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    sections = {one.get("id"): one.get("label") for one in item.get("sections") or ()}

    def matches(field: Mapping[str, Any]) -> bool:
        section = (field.get("section") or {}).get("id")
        names = {section, sections.get(section)}
        fits = len(keys) == 1 or keys[0] in names
        return fits and keys[-1] in (field.get("label"), field.get("id"))

    found = [field for field in item.get("fields") or () if matches(field)]
    if len(found) != 1 or not isinstance(found[0].get("value"), str):
        msg = f"has {len(found)} fields of that name" if len(found) != 1 else "holds no value"
        raise SourceFailed(msg)
    return str(found[0]["value"])


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
