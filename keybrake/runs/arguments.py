"""Check and convert the arguments of the public functions, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from keybrake.config import settings
from keybrake.errors import PolicyError
from keybrake.guard import caller
from keybrake.ledger import Ledger, open_ledger
from keybrake.model.shown import shown
from keybrake.policy.policy import METER, Limit, Policy

Amount = Decimal | float | str
"""USD: an int, Decimal or str, or a float through ``Decimal(str(x))``."""

Limits = Mapping[str, Limit | Mapping[str, Any]]


class Unsaid:
    """Default of a parameter that the caller left out, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "<not given>"


UNSAID: Final = Unsaid()

LONGEST_LABEL = 200


def given_arguments(**given: Any) -> dict[str, Any]:
    """Return only the arguments that are not ``UNSAID``."""
    return {name: value for name, value in given.items() if value is not UNSAID}


def policy_from(policy: object, given: Mapping[str, Any]) -> Policy:
    """
    Return *policy*, an object or a name, with the fields in *given* replaced.

    Raises:
        PolicyError: No cap is given, the name is unknown, or a field is invalid.
    """
    if policy is None:
        if "cap" not in given:
            msg = "cap is missing; say an amount in USD, or cap=None for no cap, in writing"
            raise PolicyError(msg)
        made = Policy(**given)
    elif isinstance(policy, str):
        made = replace(_named_policy(policy), **given)
    elif isinstance(policy, Policy):
        made = replace(policy, **given)
    else:
        msg = f"policy={shown(policy)} is neither a Policy nor the name of one"
        raise PolicyError(msg)
    _check_endpoints(made)
    return made


_checked: settings.Config | None = None


def check_policies() -> None:
    """Raise ``PolicyError`` if any policy in the configuration is invalid, even an unused one."""
    global _checked  # noqa: PLW0603 -- each configuration is checked once
    config = settings.current()
    if _checked is not config:
        for name in config.policies:
            _named_policy(name)
        _checked = config


def _named_policy(name: str) -> Policy:
    config = settings.current()
    if name not in config.policies:
        msg = f"policy={shown(name)} is unknown: {_hint_at_policies(name, config)}"
        raise PolicyError(msg)
    where = f"{config.source}: policies.{name}"
    policy = Policy.from_mapping(config.policies[name], where=where)
    _check_endpoints(policy, where=f"{where}: ")
    return policy


def _hint_at_policies(name: str, config: settings.Config) -> str:
    """Return a hint: the known policies, or the folders that were searched for a file."""
    if config.source == settings.NO_FILE:
        looked_in = ", ".join(config.looked_in) or "the folder where keybrake exec was started"
        return (
            f"no keybrake.toml was found in {looked_in}; make one (keybrake init), or name it by "
            f"KEYBRAKE_CONFIG"
        )
    file = os.path.abspath(config.source)  # noqa: PTH100 -- resolve() would follow links
    if not config.policies:
        return f"{file} has no policy; add [policies.NAME]"
    import difflib

    near = difflib.get_close_matches(name, config.policies, n=1)
    meant = f"; did you mean {shown(near[0])}?" if near else ""
    return f"{file} has {', '.join(sorted(config.policies))}{meant}"


def _check_endpoints(policy: Policy, *, where: str = "") -> None:
    """Raise ``PolicyError`` if a pattern names an endpoint that does not exist: it would never match."""
    # Import the vendors' tables only if the policy names an endpoint; they take time to load.
    patterns = [
        p for p in (*(policy.allow or ()), *(policy.limits or ())) if not p.startswith(METER)
    ]
    if not patterns:
        return
    from keybrake.vendors import unknown_endpoint

    for pattern in patterns:
        if problem := unknown_endpoint(pattern):
            msg = f"{where}{problem}"
            raise PolicyError(msg)


def parse_label(label: object, *, field: str = "label") -> str:
    """Return *label*; raise ``PolicyError`` unless it is a text of 1 to 200 characters."""
    if not isinstance(label, str) or not 0 < len(label) <= LONGEST_LABEL:
        msg = f"{field}={shown(label)} is invalid; write a text of 1 to {LONGEST_LABEL} characters"
        raise PolicyError(msg)
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        msg = f"{field}={label!a:.100} holds half of a surrogate pair; write proper Unicode text"
        raise PolicyError(msg) from None
    return label


def reason_of(reason: object) -> str:
    """Return *reason*; raise ``PolicyError`` if it is blank, too long or no text."""
    if isinstance(reason, str) and not reason.strip():
        msg = "reason='' is empty; write a reason for the call log"
        raise PolicyError(msg)
    return parse_label(reason, field="reason")


def parse_key(key: object) -> str:
    """
    Return *key*. The ledger checks it later, when the run is entered.

    Raises:
        PolicyError: *key* is not a string.
    """
    if not isinstance(key, str):
        msg = f"key={shown(key)} is not a vault key; write the one issue_vault_key() returned"
        raise PolicyError(msg)
    return key


def parse_ledger(wanted: object) -> Ledger:
    """
    Return the wanted ledger, else the ledger of the enclosing run, else the default one.

    Raises:
        PolicyError: *wanted* is not a ledger, or not the ledger of the enclosing run.
        LedgerUnavailable: The ledger cannot be opened.
    """
    around = caller.run_around(caller.active.get())
    if wanted is None and around is not None:
        return around.ledger
    ledger: Any = wanted
    if wanted is None or isinstance(wanted, str | os.PathLike):
        ledger = open_ledger(wanted)
    elif not callable(getattr(wanted, "admit", None)):
        msg = f"ledger={shown(wanted)} is neither a URL nor a path nor an open ledger"
        raise PolicyError(msg)
    if around is not None and around.ledger is not ledger:
        msg = f"ledger={ledger.url!r} is not that of the run around this one; leave ledger= out"
        raise PolicyError(msg)
    opened: Ledger = ledger
    return opened
