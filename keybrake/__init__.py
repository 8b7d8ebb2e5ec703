"""The brake between AI agents and the vendors they can spend money at."""

from keybrake import errors
from keybrake._config import configure
from keybrake._install import install, uninstall
from keybrake._key import issue_vault_key
from keybrake._run import Run, run
from keybrake._status import status
from keybrake._terms import Limit, Policy
from keybrake._token import VaultKey
from keybrake._tool import tool
from keybrake._verbs import bind, current_run, pause, resume, revoke, unguarded
from keybrake.errors import (
    AmountTooLarge,
    CallLimitReached,
    CallRefused,
    CapExceeded,
    CredentialError,
    CredentialUnavailable,
    EndpointNotAllowed,
    HostNotAllowed,
    KeybrakeError,
    LedgerError,
    LedgerUnavailable,
    NoActiveRun,
    PolicyError,
    RunClosed,
    RunExpired,
    RunPaused,
    RunRevoked,
    UnknownCost,
    UnsupportedSDK,
)
from keybrake.ledger import open_ledger

__version__ = "0.1.0"

__all__ = [
    "AmountTooLarge",
    "CallLimitReached",
    "CallRefused",
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
