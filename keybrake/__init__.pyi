from keybrake import errors
from keybrake.config.settings import configure
from keybrake.errors import (
    AmountTooLarge,
    CallLimitReached,
    CallRefused,
    CallStopped,
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
from keybrake.model.vault_key import VaultKey
from keybrake.policy.policy import Limit, Policy
from keybrake.runs.control import bind, current_run, pause, resume, revoke, unguarded
from keybrake.runs.install import install, uninstall
from keybrake.runs.run import Run, run
from keybrake.runs.status import status
from keybrake.runs.tool import tool
from keybrake.runs.vault_key import issue_vault_key

__version__: str

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
