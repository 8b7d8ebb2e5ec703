"""``env://NAME``: an environment variable of this process."""

from __future__ import annotations

import os
from typing import ClassVar

from keybrake.config.references import Reference
from keybrake.credentials.source import SourceFailed


class EnvSource:
    """See ``Source``."""

    SECRETS: ClassVar[tuple[str, ...]] = ()

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        value = os.environ.get(reference.path)
        if not value:
            msg = "is not set in this process's environment"
            raise SourceFailed(msg)
        return reference.pick(value)
