"""What the caller asked for: arguments as people write them, checked before anything is done."""

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
    """What a parameter holds that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<to be said>"


UNSAID: Final = Unsaid()

LONGEST_LABEL = 200


def given_arguments(**given: Any) -> dict[str, Any]:
    """Return the arguments that the caller gave, without those that were left out."""
    return {name: value for name, value in given.items() if value is not UNSAID}


def policy_from(policy: object, said: Mapping[str, Any]) -> Policy:
    """
    Return the policy that a name or object and the fields said beside it come to.

    Raises:
        PolicyError: No cap is said, the name is unknown, or a field cannot be meant.
    """
    if policy is None:
        if "cap" not in said:
            msg = "cap is missing; say an amount in USD, or cap=None for no cap, in writing"
            raise PolicyError(msg)
        made = Policy(**said)
    elif isinstance(policy, str):
        made = replace(_named_policy(policy), **said)
    elif isinstance(policy, Policy):
        made = replace(policy, **said)
    else:
        msg = f"policy={shown(policy)} is neither a Policy nor the name of one"
        raise PolicyError(msg)
    _check_endpoints(made)
    return made


_checked: settings.Config | None = None


def check_policies() -> None:
    """Refuse a configuration with a policy that cannot be meant: at start, not when it is named."""
    global _checked  # noqa: PLW0603 -- each configuration is checked once
    config = settings.current()
    if _checked is not config:
        for name in config.policies:
            _named_policy(name)
        _checked = config


def _named_policy(name: str) -> Policy:
    config = settings.current()
    if name not in config.policies:
        msg = f"policy={shown(name)} is unknown: {_where_policies_are(name, config)}"
        raise PolicyError(msg)
    where = f"{config.source}: policies.{name}"
    policy = Policy.from_mapping(config.policies[name], where=where)
    _check_endpoints(policy, where=f"{where}: ")
    return policy


def _where_policies_are(name: str, config: settings.Config) -> str:
    """Return which policies there are, or which folders have no file with any."""
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
    """Refuse a limit or permission for an endpoint that does not exist: it would never bind."""
    # The tables of the vendors are read only when somebody names an endpoint.
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
    """Return *label* if it is a text of 1 to 200 characters; else raise ``PolicyError``."""
    if not isinstance(label, str) or not 0 < len(label) <= LONGEST_LABEL:
        msg = f"{field}={shown(label)} cannot be meant; write a text of 1 to {LONGEST_LABEL} characters"
        raise PolicyError(msg)
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        msg = f"{field}={label!a:.100} holds half of a surrogate pair; write proper Unicode text"
        raise PolicyError(msg) from None
    return label


def reason_of(reason: object) -> str:
    """Return a reason as it is; raises ``PolicyError`` if it is none."""
    if isinstance(reason, str) and not reason.strip():
        msg = "reason='' is empty; write why, for whoever reads the call log"
        raise PolicyError(msg)
    return parse_label(reason, field="reason")


def parse_key(key: object) -> str:
    """
    Return a vault key as it is; whether it is one shows when the run is entered.

    Raises:
        PolicyError: It is no text.
    """
    if not isinstance(key, str):
        msg = f"key={shown(key)} is not a vault key; write the one issue_vault_key() returned"
        raise PolicyError(msg)
    return key


def parse_ledger(wanted: object) -> Ledger:
    """
    Return the ledger that is meant: the one named, else that of the run around, else the default.

    Raises:
        PolicyError: It is no ledger, or another than that of the run around.
        LedgerUnavailable: It cannot be opened.
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
