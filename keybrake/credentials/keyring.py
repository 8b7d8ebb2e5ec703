"""``keyring://SERVICE/USER``: the system's keyring."""

from __future__ import annotations

from typing import ClassVar

import keyring
from keyring import errors

from keybrake.config.references import Reference
from keybrake.credentials.source import SourceFailed


class KeyringSource:
    """See ``Source``. The ``keyring`` package chooses the keyring of the system."""

    SECRETS: ClassVar[tuple[str, ...]] = ()

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        service, _, user = reference.path.partition("/")
        try:
            found = keyring.get_password(service, user)
        except errors.NoKeyringError:
            msg = "cannot be read: this machine has no keyring"
            raise SourceFailed(msg) from None
        except errors.KeyringError as error:
            msg = f"cannot be read: {type(error).__name__}"
            raise SourceFailed(msg) from None
        if found is None:
            msg = f"is not there; keyring set {service} {user}"
            raise SourceFailed(msg)
        return reference.pick(found)
