"""Which Twilio endpoint is this URL: found by product and path, whatever edge and region."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from keybrake.model.call import Effect
from keybrake.vendors.paths import EndpointTable, Row, oddity, path_of

# product.twilio.com, product.region.twilio.com, product.edge.region.twilio.com. Names of hosts
# know no case, and a dot at the end changes nothing.
_HOST = re.compile(
    r"https?://([a-z0-9-]+)(?:\.[a-z0-9-]+){0,2}\.twilio\.com\.?(?::[0-9]{1,5})?(?:/.*)?",
    re.IGNORECASE | re.DOTALL,
)
_ACCOUNT = re.compile(r"/2010-04-01/Accounts/(AC[0-9A-Za-z]+)(?:[/.].*)?")

# On any other host the path alone has to tell, and then the worst it can mean counts.
_WORST_LAST = (Effect.READ, Effect.FREE, Effect.MONEY, Effect.UNCLASSIFIED, Effect.AUTHORITY)


class Place(NamedTuple):
    """
    Where a call goes.

    Attributes:
        row: What is known of the endpoint; None: nothing.
        path: Without host.
        ids: What stands in the placeholders of the path.
        account: The account in the path, or an empty text.
        odd: What makes the path one that two parsers could read differently.
    """

    row: Row | None
    path: str
    ids: tuple[str, ...]
    account: str
    odd: str | None


class Places:
    """Every endpoint of Twilio."""

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
        """Return whether a pattern of a path, without host, could mean an endpoint."""
        return self._by_path.could_be(method, pattern)

    def of(self, method: str, url: str) -> Place:
        """Return the place a method and an absolute URL without query name."""
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
