"""Fetch the vendors' real secrets from the secret stores that the operator already uses."""

from keybrake.credentials.broker import Broker, Brokered, Known
from keybrake.credentials.current import current, fetch_at_start
from keybrake.credentials.secret import Credential, Secret
from keybrake.credentials.source import Source, SourceFailed, asking
from keybrake.credentials.store import FROM_ENVIRONMENT, Credentials

__all__ = [
    "FROM_ENVIRONMENT",
    "Broker",
    "Brokered",
    "Credential",
    "Credentials",
    "Known",
    "Secret",
    "Source",
    "SourceFailed",
    "asking",
    "current",
    "fetch_at_start",
]
