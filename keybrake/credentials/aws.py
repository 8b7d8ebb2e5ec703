"""``awssecrets://NAME#/KEY`` and ``awsssm://NAME``: AWS Secrets Manager and Parameter Store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from keybrake.config.references import Reference
from keybrake.credentials.file import text_of
from keybrake.credentials.source import SourceFailed, hush
from keybrake.model.waiting import Mutex

# Per attempt; there are two attempts.
_TIMEOUT_S = 5.0


class _AwsSource:
    """
    Common code of both AWS stores.

    boto3 finds region and identity in its usual way: ``AWS_REGION``, ``AWS_PROFILE``,
    ``AWS_ENDPOINT_URL``, a role of the machine. ``region`` and ``profile`` in the reference take
    precedence.
    """

    SECRETS: ClassVar[tuple[str, ...]] = ()
    service: str
    ask: Callable[[Any, Reference], str | bytes]

    def __init__(self) -> None:
        self._lock = Mutex()
        self._clients: dict[tuple[str | None, str | None], Any] = {}

    def _client(self, reference: Reference) -> Any:
        place = (reference.param("profile"), reference.param("region"))
        with self._lock:  # boto3 sessions are not thread-safe
            if place not in self._clients:
                session = boto3.session.Session(profile_name=place[0], region_name=place[1])
                how = Config(
                    connect_timeout=_TIMEOUT_S,
                    read_timeout=_TIMEOUT_S,
                    retries={"total_max_attempts": 2},
                )
                self._clients[place] = session.client(self.service, config=how)
                hush("botocore")  # it logs responses, with the secret, at DEBUG level
            return self._clients[place]

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        try:
            found = type(self).ask(self._client(reference), reference)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "an error")
            msg = f"was not returned: {code}"
            raise SourceFailed(msg) from None
        except BotoCoreError as error:
            msg = f"cannot be read: {type(error).__name__}"
            raise SourceFailed(msg) from None
        if isinstance(found, bytes):
            return text_of(found, reference)
        return reference.pick(found)


def _secret(client: Any, reference: Reference) -> str | bytes:
    versions = {"VersionId": reference.param("version"), "VersionStage": reference.param("stage")}
    wanted = {name: value for name, value in versions.items() if value}
    answer = client.get_secret_value(SecretId=reference.path, **wanted)
    found: str | bytes = answer["SecretString" if "SecretString" in answer else "SecretBinary"]
    return found


def _parameter(client: Any, reference: Reference) -> str:
    name, version = reference.path, reference.param("version")
    # The name of a parameter in a hierarchy must begin with a slash; a reference may omit it.
    if "/" in name and not name.startswith(("/", "arn:")):
        name = f"/{name}"
    if version:
        name = f"{name}:{version}"
    answer = client.get_parameter(Name=name, WithDecryption=True)
    return str(answer["Parameter"]["Value"])


class SecretsManagerSource(_AwsSource):
    """See ``Source``. ``version`` and ``stage`` in the reference name an older version."""

    service = "secretsmanager"
    ask = staticmethod(_secret)


class ParameterStoreSource(_AwsSource):
    """See ``Source``. Encrypted parameters are decrypted; ``version`` names an older version."""

    service = "ssm"
    ask = staticmethod(_parameter)
