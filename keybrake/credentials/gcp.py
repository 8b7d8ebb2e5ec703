"""``gcpsecrets://PROJECT/SECRET?version=N#/KEY``: Google Cloud's Secret Manager."""

from __future__ import annotations

import os
from typing import Any, ClassVar
from urllib.parse import urlsplit

import google_crc32c
import grpc
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service import transports

from keybrake.config.references import Reference
from keybrake.credentials.file import text_of
from keybrake.credentials.https import THIS_MACHINE
from keybrake.credentials.source import SourceFailed, hush

_TIMEOUT_S = 10.0
# Errors before any request is sent: there is no account, or its file cannot be used.
_NO_ACCOUNT = (GoogleAuthError, OSError, ValueError)
_NO_ANSWER = (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)


class SecretManagerSource:
    """
    See ``Source``.

    Google's client finds the account in its usual way: ``GOOGLE_APPLICATION_CREDENTIALS``, the file
    of ``gcloud auth application-default login``, an account of the machine.
    ``SECRET_MANAGER_EMULATOR_HOST`` names an emulator on this machine to use instead.
    """

    SECRETS: ClassVar[tuple[str, ...]] = ()

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        name = _name(reference)
        try:
            # A new client each time: it notices a changed account, and none survives into a fork.
            with _client() as client:
                hush("google")  # with logging on, it logs responses, with the secret
                request = {"name": name}
                found = client.access_secret_version(request, retry=None, timeout=_TIMEOUT_S)
        except _NO_ACCOUNT as error:
            msg = f"cannot be read: {type(error).__name__}"
            raise SourceFailed(msg) from None
        except _NO_ANSWER as error:
            msg = f"cannot be read: Secret Manager does not answer: {type(error).__name__}"
            raise SourceFailed(msg) from None
        except exceptions.GoogleAPIError as error:
            msg = f"was not returned: {type(error).__name__}"
            raise SourceFailed(msg) from None
        content: bytes = found.payload.data
        if google_crc32c.value(content) != found.payload.data_crc32c:
            msg = "was changed on its way: its checksum is another"
            raise SourceFailed(msg)
        return text_of(content, reference)


def _name(reference: Reference) -> str:
    """Return the Google resource name of the secret version."""
    place = reference.path.strip("/").split("/")
    version = reference.param("version") or "latest"
    if len(place) != 2 or not all(place) or "/" in version:
        msg = "is not PROJECT/SECRET?version=VERSION"
        raise SourceFailed(msg)
    return f"projects/{place[0]}/secrets/{place[1]}/versions/{version}"


def _client() -> Any:
    emulator = os.environ.get("SECRET_MANAGER_EMULATOR_HOST")
    if not emulator:
        return SecretManagerServiceClient()
    if urlsplit(f"//{emulator}").hostname not in THIS_MACHINE:
        msg = f"would be read unencrypted from {emulator}; an emulator runs on this machine"
        raise SourceFailed(msg)
    channel = grpc.insecure_channel(emulator, options=[("grpc.enable_http_proxy", 0)])
    return SecretManagerServiceClient(
        transport=transports.SecretManagerServiceGrpcTransport(channel=channel)
    )
