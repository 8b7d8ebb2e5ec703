"""Find the Twilio endpoint of a URL by product and path; edge and region do not matter."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from keybrake.model.call import Effect
from keybrake.vendors.paths import EndpointTable, Row, oddity, path_of

# product.twilio.com, product.region.twilio.com or product.edge.region.twilio.com. DNS ignores the
# case of a host name and a dot at its end.
_HOST = re.compile(
    r"https?://([a-z0-9-]+)(?:\.[a-z0-9-]+){0,2}\.twilio\.com\.?(?::[0-9]{1,5})?(?:/.*)?",
    re.IGNORECASE | re.DOTALL,
)
_ACCOUNT = re.compile(r"/2010-04-01/Accounts/(AC[0-9A-Za-z]+)(?:[/.].*)?")

# On any other host the endpoint is found by its path alone. If several products share the path,
# the row with the worst effect wins, because the table keeps the last one.
_WORST_LAST = (Effect.READ, Effect.FREE, Effect.MONEY, Effect.UNCLASSIFIED, Effect.AUTHORITY)


class Place(NamedTuple):
    """
    The endpoint of a call, and the parts of its path.

    Attributes:
        row: Row of the endpoint; None: the table has none.
        path: Path without the host.
        ids: Values of the placeholders in the path.
        account: Account in the path, or an empty text.
        odd: The reason why two parsers could read the path differently; None: they cannot.
    """

    row: Row | None
    path: str
    ids: tuple[str, ...]
    account: str
    odd: str | None


class Places:
    """The table of all Twilio endpoints, searched by host and path."""

    def __init__(self) -> None:
        self._by_host = EndpointTable.read("keybrake.vendors.twilio", "endpoints.csv")

    @functools.cached_property
    def _by_path(self) -> EndpointTable:
        rows = sorted(self._by_host.rows, key=lambda row: _WORST_LAST.index(row.effect))
        return EndpointTable.of(row._replace(path=row.path.partition("/")[2]) for row in rows)

    def names(self) -> frozenset[str]:
        """Return the name of every endpoint."""
        return frozenset(row.endpoint for row in self._by_host.rows)

    def could_be(self, method: str, pattern: str) -> bool:
        """Return whether a path pattern, without a host, could match an endpoint."""
        return self._by_path.could_be(method, pattern)

    def of(self, method: str, url: str) -> Place:
        """Return the endpoint of a method and an absolute URL without a query."""
        path = path_of(url)
        odd = oddity(path)
        if odd is not None:
            return Place(None, ascii(path)[1:200], (), "", odd)
        host = _HOST.fullmatch(url)
        if host is None:
            row, ids = self._by_path.find(method, path)
        else:
            row, ids = self._by_host.find(method, f"{host[1].lower()}.twilio.com{path}")
        account = _ACCOUNT.fullmatch(path)
        return Place(row, path, ids, account[1] if account else "", None)
