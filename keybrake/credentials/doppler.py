"""``doppler://PROJECT/CONFIG/NAME``: Doppler, over HTTPS."""

from __future__ import annotations

import os
from typing import ClassVar

from keybrake.config.references import Reference
from keybrake.credentials.https import get_json
from keybrake.credentials.source import SourceFailed

_HOST = "https://api.doppler.com"
# https://docs.doppler.com/reference/secrets-get, noted 2026-11-23.
_PATH = "/v3/configs/config/secret"


class DopplerSource:
    """See ``Source``. Reads the token from ``DOPPLER_TOKEN``; ``DOPPLER_API_HOST`` overrides the host."""

    SECRETS: ClassVar[tuple[str, ...]] = ("DOPPLER_TOKEN",)

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        place = reference.path.strip("/").split("/")
        if len(place) != 3:
            msg = "is not PROJECT/CONFIG/NAME"
            raise SourceFailed(msg)
        token = os.environ.get("DOPPLER_TOKEN")
        if not token:
            msg = "has no token; set DOPPLER_TOKEN"
            raise SourceFailed(msg)
        query = dict(zip(("project", "config", "name"), place, strict=True))
        found = get_json(os.environ.get("DOPPLER_API_HOST") or _HOST, _PATH, query, token)
        # "computed" is the value after Doppler has resolved references to other secrets.
        value = found.get("value", {}).get("computed") if isinstance(found, dict) else None
        if not isinstance(value, str):
            msg = "holds no value"
            raise SourceFailed(msg)
        return reference.pick(value)
