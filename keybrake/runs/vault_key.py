"""``issue_vault_key()``: open a run that other processes join with a token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from keybrake.errors import PolicyError
from keybrake.guard import caller
from keybrake.ledger import Ledger, NewRun
from keybrake.model import vault_key
from keybrake.model.vault_key import VaultKey
from keybrake.policy import policy as policies
from keybrake.policy.policy import Policy
from keybrake.runs.arguments import (
    UNSAID,
    Amount,
    Limits,
    Unsaid,
    given_arguments,
    parse_label,
    parse_ledger,
    policy_from,
)
from keybrake.runs.install import install


def issue_vault_key(  # noqa: PLR0913 -- one keyword per promise
    session_id: str,
    *,
    cap: Amount | Unsaid | None = UNSAID,
    daily_usd_cap: Amount | None = None,
    max_calls: int | None = None,
    max_amount: Amount | None = None,
    allow: Sequence[str] | None = None,
    limits: Limits | None = None,
    expires_in: object = UNSAID,
    label: str | None = None,
    policy: Policy | str | None = None,
    ledger: str | os.PathLike[str] | Ledger | None = None,
) -> VaultKey:
    """
    Open a run that no block closes, and return its vault key.

    Any process on the same ledger can use the key, by ``run(key=…)`` or by ``KEYBRAKE_VAULT_KEY`` in
    its environment; its calls are bound by this run's policy. The ledger stores only the SHA-256 of
    the key, so keybrake cannot show it again. A key issued inside a run, or in a process with
    ``KEYBRAKE_VAULT_KEY``, opens a child run, which the policy of the parent binds as well.

    Args:
        session_id: The caller's id of the session; it becomes the label, unless *label* is given.
        cap: The most the run may move or cost, in USD. Required, unless *daily_usd_cap* or *policy*
            is given; ``cap=None`` explicitly sets no cap.
        daily_usd_cap: USD per UTC calendar day.
        max_calls: The most vendor calls.
        max_amount: The most one call may ask for, in USD.
        allow: Endpoint patterns; see :func:`keybrake.run`.
        limits: Endpoint pattern → :class:`keybrake.Limit`.
        expires_in: ``"30m"``, ``"2h"``, ``"7d"``, a ``timedelta``, or None for never. By default
            the expiry of *policy*, else 1 hour.
        label: Name of the run in the call log.
        policy: A :class:`keybrake.Policy`, or the name of one in ``keybrake.toml``. Other arguments
            override its fields.
        ledger: URL, path or open ledger; see :func:`keybrake.open_ledger`.

    Raises:
        PolicyError: No cap is given, or an argument is invalid; nothing is written.
        LedgerUnavailable: The ledger cannot be opened, locked in time or written.
    """
    given: dict[str, object] = {
        "daily_usd_cap": daily_usd_cap,
        "max_calls": max_calls,
        "max_amount": max_amount,
        "allow": allow,
        "limits": limits,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if policy is None:
        _check_cap(cap, daily_usd_cap)
        # A daily cap is enough. Without a policy the key expires, unless the caller says otherwise.
        given |= {"cap": None, "expires_in": "1h"}
    given |= given_arguments(cap=cap, expires_in=expires_in)
    made = policy_from(policy, given)
    name = parse_label(session_id) if label is None else parse_label(label)
    install()
    opened = parse_ledger(ledger)
    uid = f"run_{secrets.token_hex(8)}"
    key = VaultKey(vault_key.make(), uid)
    opened.open_run(
        NewRun(
            uid=uid,
            label=name,
            terms=policies.terms_of(made),
            lives_for=policies.expiry_of(made),
            key_hash=vault_key.digest(key),
            parent=caller.parent_scope(caller.active.get(), opened),
        )
    )
    return key


def _check_cap(cap: object, daily_usd_cap: object) -> None:
    """Raise ``PolicyError`` if no cap is given, unless the caller wrote ``cap=None``."""
    if cap is UNSAID and daily_usd_cap is None:
        msg = (
            "cap is missing; say an amount in USD, a daily_usd_cap or a policy, or cap=None for "
            "no cap, in writing"
        )
        raise PolicyError(msg)
