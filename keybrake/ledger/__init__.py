"""The ledger: open it by its URL; its protocol, its rules and its stores are in this folder."""

from __future__ import annotations

import os

from keybrake.config import settings
from keybrake.ledger.protocol import (
    Admission,
    Admitted,
    Busy,
    Estimated,
    InDoubt,
    Ledger,
    NewRun,
    Note,
    RunRecord,
    Spoiled,
    Stale,
)
from keybrake.ledger.stores.sqlite.forking import opening

__all__ = [
    "Admission",
    "Admitted",
    "Busy",
    "Estimated",
    "InDoubt",
    "Ledger",
    "NewRun",
    "Note",
    "RunRecord",
    "Spoiled",
    "Stale",
    "open_ledger",
]

_opened: dict[str, Ledger] = {}
_configured: dict[str, tuple[float, str]] = {}


def open_ledger(url: str | os.PathLike[str] | None = None) -> Ledger:
    """
    Open a ledger, and make it if it does not exist; a process opens each file only once.

    Args:
        url: ``sqlite:///ledger.db`` (relative), ``sqlite:////abs/ledger.db``, or a path. None:
            ``KEYBRAKE_LEDGER``, else ``ledger`` in ``keybrake.toml``, else a file in the
            platform's state folder.

    Raises:
        PolicyError: *url* is not the URL of a ledger.
        LedgerUnavailable: The file cannot be made, opened or locked, or is not a ledger.
    """
    with opening:
        config = settings.current()
        # Import sqlite3 with the first ledger, so that "import keybrake" stays fast.
        from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
        from keybrake.ledger.stores.sqlite.ledger_files import path_of

        path = path_of(config.ledger if url is None else url)
        ledger, how = _opened.get(str(path)), (config.lock_timeout, config.durability)
        if ledger is None:
            ledger = SQLiteLedger(path, lock_timeout_s=how[0], durability=how[1], at_once=False)
            _opened[str(path)], _configured[str(path)] = ledger, how
        elif isinstance(ledger, SQLiteLedger) and _configured.get(str(path)) != how:
            # The settings have changed since the ledger was opened.
            ledger.configure(lock_timeout_s=how[0], durability=how[1])
            _configured[str(path)] = how
    # Outside the lock, because opening the file may have to wait for another process.
    if isinstance(ledger, SQLiteLedger):
        ledger.open()
    return ledger
