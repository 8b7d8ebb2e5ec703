"""Where the vendors' real secrets come from: the place where the user keeps them already."""

from keybrake.credentials._broker import Broker, Brokered, Known
from keybrake.credentials._current import current, fetch_at_start
from keybrake.credentials._secret import Credential, Secret
from keybrake.credentials._source import Source, SourceFailed, asking
from keybrake.credentials._store import FROM_ENVIRONMENT, Credentials

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
