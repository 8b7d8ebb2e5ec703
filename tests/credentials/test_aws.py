"""Secrets Manager and Parameter Store return secrets, and errors say why not."""

import logging
import os
import re
import socket
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from keybrake.config.credential_locations import places
from keybrake.config.references import Reference, Unreadable, parse
from keybrake.credentials import Credential, Credentials, SourceFailed

pytestmark = [
    pytest.mark.system,
    # Warnings of the packages that moto's server uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start moto's server in a thread."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(server, monkeypatch):
    """Return the operator's clients of both stores, with a secret in each."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    secrets, parameters = boto3.client("secretsmanager"), boto3.client("ssm")
    keep(secrets, "agents/stripe", f'{{"api_key": "{SECRET}", "n": {{"a": 1}}}}')
    parameters.put_parameter(
        Name="/agents/resend", Value="re_1", Type="SecureString", Overwrite=True
    )
    return secrets, parameters


def keep(secrets, name, text):
    """Create or update a secret."""
    try:
        secrets.create_secret(Name=name, SecretString=text)
    except secrets.exceptions.ResourceExistsException:
        secrets.put_secret_value(SecretId=name, SecretString=text)


def fetch(path="agents/stripe", keys=("api_key",), **facts):
    """Return a secret through the Secrets Manager source."""
    from keybrake.credentials.aws import SecretsManagerSource

    return SecretsManagerSource().fetch(Reference("awssecrets", path, tuple(facts.items()), keys))


def parameter(path="/agents/resend", keys=(), **facts):
    """Return a parameter through the Parameter Store source."""
    from keybrake.credentials.aws import ParameterStoreSource

    return ParameterStoreSource().fetch(Reference("awsssm", path, tuple(facts.items()), keys))


def test_a_secret_is_read_whole_or_by_key(aws):
    """The source returns the text or one value of a JSON object, and sees a rotated secret."""
    secrets, _ = aws
    assert fetch() == SECRET
    keep(secrets, "agents/stripe", '{"api_key": "rotated"}')
    assert fetch() == "rotated"
    keep(secrets, "plain", SECRET)
    assert fetch("plain", ()) == SECRET


def test_the_secret_is_not_in_the_debug_log(aws, caplog):
    """Botocore logs responses at DEBUG level, but not while a source is read."""
    from keybrake.credentials import asking

    caplog.set_level(logging.DEBUG)
    known = Credentials({"stripe": {"secret": parse("awssecrets://agents/stripe#/api_key", "")}}, 9)
    assert known.get("stripe") == Credential(SECRET)
    assert SECRET not in caplog.text
    assert not asking.get()
    # The agent's own use of AWS is logged as usual.
    aws[0].get_secret_value(SecretId="agents/stripe")
    assert SECRET in caplog.text


def test_an_older_version_can_be_read(aws):
    """A stage in the reference selects the version that rotation left."""
    secrets, _ = aws
    keep(secrets, "agents/stripe", '{"api_key": "rotated"}')
    assert fetch(stage="AWSPREVIOUS") == SECRET


def test_a_binary_secret_must_be_utf8_text(aws):
    """A binary secret is decoded, or refused if it is not UTF-8."""
    secrets, _ = aws
    secrets.create_secret(Name="binary", SecretBinary=SECRET.encode())
    assert fetch("binary", ()) == SECRET
    secrets.create_secret(Name="bytes", SecretBinary=b"\xff")
    with pytest.raises(SourceFailed, match="no text in UTF-8"):
        fetch("bytes", ())


def test_a_parameter_is_decrypted(aws):
    """An encrypted parameter is decrypted, and the leading slash of its name may be omitted."""
    _, parameters = aws
    assert parameter() == parameter("agents/resend") == "re_1"
    parameters.put_parameter(
        Name="/agents/resend", Value="re_2", Type="SecureString", Overwrite=True
    )
    assert parameter() == "re_2"
    parameters.put_parameter(Name="flat", Value='{"key": "re_3"}', Type="String", Overwrite=True)
    assert parameter("flat", ("key",)) == "re_3"


def test_the_reference_can_name_a_region(aws):
    """A secret of one region is not found in another one."""
    with pytest.raises(SourceFailed, match="ResourceNotFoundException"):
        fetch(region="us-west-2")


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: fetch("none"), "was not returned: ResourceNotFoundException"),
        (lambda: parameter("/none"), "was not returned: ParameterNotFound"),
        (lambda: fetch(keys=("none",)), "has no #/none"),
        (lambda: fetch(keys=("n",)), "holds no text at #/n"),
        (lambda: fetch(profile="none"), "cannot be read: ProfileNotFound"),
    ],
)
def test_a_missing_secret_is_reported_by_aws_error_code(aws, ask, why):
    """The error has the code of AWS, and no part of the existing secret."""
    with pytest.raises((SourceFailed, Unreadable), match=why) as refused:
        ask()
    assert SECRET not in str(refused.value)


def test_a_server_that_is_down_is_reported(aws, monkeypatch):
    """The source makes two attempts, then fails."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        for ask in (fetch, parameter):
            with pytest.raises(SourceFailed, match="cannot be read: EndpointConnectionError"):
                ask()


@pytest.mark.parametrize(
    "reference", ["awssecrets://agents/stripe#/api_key", "awsssm://agents/stripe#/api_key"]
)
def test_a_rotated_secret_is_seen(aws, reference):
    """The new secret is fetched after the TTL, and at once if the vendor refused the old one."""
    secrets, parameters = aws

    def write(secret: str) -> None:
        text = f'{{"api_key": "{secret}"}}'
        keep(secrets, "agents/stripe", text)
        parameters.put_parameter(
            Name="/agents/stripe", Value=text, Type="SecureString", Overwrite=True
        )

    write(SECRET)
    place = {"stripe": {"secret": parse(reference, "stripe")}}
    lasting, short = Credentials(place, 3600), Credentials(place, 0.01)
    assert lasting.get("stripe") == short.get("stripe") == Credential(SECRET)
    write("rotated")
    assert lasting.get("stripe") == Credential(SECRET)
    time.sleep(0.02)
    assert short.get("stripe") == Credential("rotated")
    assert lasting.get("stripe", refused=Credential(SECRET)) == Credential("rotated")


def test_the_page_is_true(aws):
    """The keybrake.toml in docs/how-to/aws.md finds the secrets that the page names."""
    secrets, _ = aws
    page = (Path(__file__).parents[2] / "docs/how-to/aws.md").read_text("utf-8")
    (written,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    keep(secrets, "agents/twilio", '{"sid": "AC1", "token": "t"}')
    found, ttl = places(tomllib.loads(written)["credentials"], "credentials")
    known = Credentials(found, ttl)
    assert known.get("stripe") == Credential(SECRET)
    assert known.get("twilio") == Credential("t", "AC1")
    assert known.get("resend") == Credential("re_1")
