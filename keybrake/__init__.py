"""
Spending limits for AI agents that call Stripe, Twilio or Resend.

Each public name is loaded when it is first used: ``import keybrake`` is cheap in programs that
may never open a run. ``__init__.pyi`` has the same names for type checkers.
"""

import importlib

__version__ = "0.1.0"

# Reads the vault key that this process was started with, before the program can change os.environ.
importlib.import_module("keybrake.config.started_under")

_HOMES = {
    "keybrake.config.settings": "configure",
    "keybrake.ledger": "open_ledger",
    "keybrake.model.vault_key": "VaultKey",
    "keybrake.policy.policy": "Limit Policy",
    "keybrake.runs.control": "bind current_run pause resume revoke unguarded",
    "keybrake.runs.install": "install uninstall",
    "keybrake.runs.run": "Run run",
    "keybrake.runs.status": "status",
    "keybrake.runs.tool": "tool",
    "keybrake.runs.vault_key": "issue_vault_key",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AmountTooLarge",
    "CallLimitReached",
    "CallRefused",
    "CallStopped",
    "CapExceeded",
    "CredentialError",
    "CredentialUnavailable",
    "EndpointNotAllowed",
    "HostNotAllowed",
    "KeybrakeError",
    "LedgerError",
    "LedgerUnavailable",
    "Limit",
    "NoActiveRun",
    "Policy",
    "PolicyError",
    "Run",
    "RunClosed",
    "RunExpired",
    "RunPaused",
    "RunRevoked",
    "UnknownCost",
    "UnsupportedSDK",
    "VaultKey",
    "__version__",
    "bind",
    "configure",
    "current_run",
    "errors",
    "install",
    "issue_vault_key",
    "open_ledger",
    "pause",
    "resume",
    "revoke",
    "run",
    "status",
    "tool",
    "unguarded",
    "uninstall",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module, and keep it."""
    if name not in __all__:
        msg = f"module 'keybrake' has no attribute {name!r}"
        raise AttributeError(msg)
    if name == "errors":
        return importlib.import_module("keybrake.errors")
    found = getattr(importlib.import_module(_HOME_OF.get(name, "keybrake.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
