"""Refuse to lift a stop (such as a pause) in a process that the stopped run's vault key started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keybrake.config import started_under
from keybrake.errors import PolicyError
from keybrake.ledger import statements as sql
from keybrake.model import vault_key

Read = Callable[[str, tuple[object, ...]], Iterable[Any]]
"""Runs a statement on the ledger and returns its rows."""

_REMEDY = f"a person does it from a terminal without {started_under.AMBIENT_KEY}"


def refuse_under_own_key(read: Read, run: int | None, action: str) -> None:
    """
    Refuse to lift a stop if this process was started under the key of a related run.

    Related are the run itself and every run that shares a parent with it: the cap of the parent binds
    both, so money that one gives back can be spent by the other.

    Args:
        read: Runs a statement on the ledger.
        run: Primary key of the stopped run. None: the run is not known, so any key is refused.
        action: The refused action, for the message: ``resume run run_…``.

    Raises:
        PolicyError: This process was started under such a key, or `keybrake exec` started it and
            its key is missing. Nothing is written.
    """
    if started_under.lost_its_key():
        msg = f"cannot {action}: keybrake exec started this process, and its vault key is gone; {_REMEDY}"
        raise PolicyError(msg)
    lifted = _chain(read, run)
    for token in started_under.vault_keys():
        rows = list(read(_RUN_OF_KEY, (vault_key.digest(token),)))
        if rows and (run is None or lifted & _chain(read, rows[0][0])):
            msg = (
                f"cannot {action}: this process was started under the vault key of {rows[0][1]} "
                f"({rows[0][2]!a}), and a run's own key lifts no stop of that run; {_REMEDY}"
            )
            raise PolicyError(msg)


def refuse_under_any_key(action: str) -> None:
    """
    Refuse an action on the whole ledger if this process was started under any vault key.

    Raises:
        PolicyError: This process was started under a vault key.
    """
    if started_under.vault_keys() or started_under.lost_its_key():
        msg = f"cannot {action}: this process was started under a vault key; {_REMEDY}"
        raise PolicyError(msg)


_RUN_OF_KEY = "SELECT id, uid, label FROM scope WHERE key_hash = ?"


def _chain(read: Read, pk: int | None) -> set[int]:
    """Return the primary keys of a run and all its parents."""
    return set() if pk is None else {row[0] for row in read(sql.SELECT_CHAIN, (pk,))}
