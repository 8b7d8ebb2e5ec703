"""Decide which vault keys get the vendors' credentials: those of the run and of its children."""

from __future__ import annotations

from keybrake.ledger import open_ledger
from keybrake.model import vault_key

_STRANGER = "the vault key is not that of this run"


class Gate:
    """
    Checks the vault keys with which processes ask for credentials.

    Args:
        url: The URL of the ledger.

    Attributes:
        run_id: The run of ``keybrake exec``; while it is None, every key is refused.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.run_id: str | None = None

    def __call__(self, key: str) -> str | None:
        """Return why *key* is refused; None if it is accepted."""
        if self.run_id is None or not vault_key.is_wellformed(key):
            return _STRANGER
        ledger = open_ledger(self._url)
        shown = ledger.join(vault_key.digest(key))
        if shown is None:
            return _STRANGER
        # The run of the key first, then its parents. All up to our run must be open or paused; a tool
        # in between has the state of its run.
        chain = [ledger.run(pk) for pk in ledger.chain(shown.pk)]
        ids = [scope.uid for scope in chain]
        if self.run_id not in ids:
            return _STRANGER
        for scope in chain[: ids.index(self.run_id) + 1]:
            if (state := scope.state()) not in ("open", "paused"):
                return f"the run {scope.uid} is {state}"
        return None
