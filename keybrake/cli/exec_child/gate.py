"""Who is given the vendors' credentials: whoever has the key of a run, or of one that stands under it."""

from __future__ import annotations

from keybrake.ledger import open_ledger
from keybrake.model import vault_key

_STRANGER = "the vault key is not that of this run"


class Gate:
    """
    Says of a vault key why whoever shows it is given no credential; None: it is given them.

    Args:
        url: Of the ledger.

    Attributes:
        run_id: The run that the credentials are for; until there is one, no key is right.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.run_id: str | None = None

    def __call__(self, key: str) -> str | None:
        """See the class."""
        if self.run_id is None or not vault_key.is_wellformed(key):
            return _STRANGER
        ledger = open_ledger(self._url)
        shown = ledger.join(vault_key.digest(key))
        if shown is None:
            return _STRANGER
        # The run of the key first, then what it stands under. A tool is as alive as its run.
        chain = [ledger.run(pk) for pk in ledger.chain(shown.pk)]
        ids = [scope.uid for scope in chain]
        if self.run_id not in ids:
            return _STRANGER
        for scope in chain[: ids.index(self.run_id) + 1]:
            if (state := scope.state()) not in ("open", "paused"):
                return f"the run {scope.uid} is {state}"
        return None
