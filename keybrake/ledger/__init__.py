"""Where it is written down: opening a ledger by its URL."""

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
    Open a ledger, making it if there is none yet; once per process and file.

    Args:
        url: ``sqlite:///ledger.db`` (relative), ``sqlite:////abs/ledger.db``, or a path. None:
            ``KEYBRAKE_LEDGER``, else what ``keybrake.toml`` names, else the platform's folder
            for state.

    Raises:
        PolicyError: The URL cannot be meant.
        LedgerUnavailable: The file cannot be made, opened or locked, or is no ledger.
    """
    with opening:
        config = settings.current()
        # sqlite3 is loaded when the first ledger is opened, not with keybrake.
        from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
        from keybrake.ledger.stores.sqlite.ledger_files import path_of

        path = path_of(config.ledger if url is None else url)
        ledger, how = _opened.get(str(path)), (config.lock_timeout, config.durability)
        if ledger is None:
            ledger = SQLiteLedger(path, lock_timeout_s=how[0], durability=how[1], at_once=False)
            _opened[str(path)], _configured[str(path)] = ledger, how
        elif isinstance(ledger, SQLiteLedger) and _configured.get(str(path)) != how:
            # It was opened before somebody said so.
            ledger.configure(lock_timeout_s=how[0], durability=how[1])
            _configured[str(path)] = how
    # Outside of that lock: it may have to wait for another process.
    if isinstance(ledger, SQLiteLedger):
        ledger.open()
    return ledger
