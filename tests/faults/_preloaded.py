"""A web application that opens its ledger before it is forked and patched: ``gunicorn --preload``."""

from collections.abc import Callable, Iterable
from typing import Any

import keybrake

keybrake.configure(lock_timeout=2)
ledger = keybrake.open_ledger()
with keybrake.run("before the fork", cap=1):
    pass


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Open a run for each request, but for those that ask how it goes."""
    said = "ok"
    if environ["PATH_INFO"] == "/run":
        try:
            with keybrake.run("request", cap=1):
                pass
        except keybrake.LedgerUnavailable:
            said = "refused"
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
    return [said.encode()]
