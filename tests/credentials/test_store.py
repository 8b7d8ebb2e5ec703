"""A credential is fetched once, cached for its TTL, fetched again if refused, and never shown."""

import copy
import pickle
import threading
import traceback
from collections.abc import Callable

import pytest

import keybrake
from keybrake import credentials
from keybrake.config.credential_locations import places
from keybrake.credentials import Credential, Credentials, Secret, store
from keybrake.errors import CredentialError
from tests.credentials._reach import in_reach

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture
def clock(monkeypatch) -> Callable[[float], None]:
    """Return a function that advances the clock by seconds."""
    now = [1000.0]
    monkeypatch.setattr(store, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def kept_at(**table: object) -> Credentials:
    """Return credentials with these references."""
    found, _ = places(table, "credentials")
    return Credentials(found, 60)


def test_a_credential_is_fetched_again_after_its_ttl(monkeypatch, clock):
    """A rotated secret is seen when the TTL of the old one is over."""
    monkeypatch.setenv("MINE", "one")
    known = kept_at(stripe="env://MINE")
    assert known.kept("stripe") is None
    assert known.get("stripe") == Credential("one")
    monkeypatch.setenv("MINE", "two")
    clock(59.9)
    assert known.get("stripe") == known.kept("stripe") == Credential("one")
    clock(0.1)
    assert known.kept("stripe") is None
    assert known.get("stripe") == Credential("two")


def test_a_failed_source_is_not_retried_for_a_second(monkeypatch, clock):
    """Calls within one second get the last error, and a later call tries again."""
    known = kept_at(stripe="env://MINE")
    monkeypatch.delenv("MINE", raising=False)
    with pytest.raises(CredentialError, match="env://MINE"):
        known.get("stripe")
    monkeypatch.setenv("MINE", "one")
    clock(0.9)
    with pytest.raises(CredentialError, match="env://MINE"):
        known.get("stripe")
    clock(0.2)
    assert known.get("stripe") == Credential("one")


def test_an_unexpected_error_of_a_source_is_not_repeated(monkeypatch):
    """A third-party source may raise anything, and its message may quote the secret."""

    class Broken:
        def fetch(self, _: object) -> str:
            return {}[SECRET]

    monkeypatch.setattr(store, "source", lambda _: Broken())
    with pytest.raises(CredentialError) as refused:
        kept_at(stripe="env://MINE").get("stripe")
    said = "credentials.stripe: env://MINE cannot be read: KeyError in its source"
    assert str(refused.value) == said
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_an_unchanged_refused_secret_is_not_fetched_for_five_seconds(monkeypatch, clock):
    """Repeated refusals by the vendor do not flood a source that has nothing newer."""
    monkeypatch.setenv("MINE", "one")
    known = kept_at(stripe="env://MINE")
    old = known.get("stripe")
    assert known.get("stripe", refused=old) == old
    monkeypatch.setenv("MINE", "two")
    clock(4.9)
    assert known.get("stripe", refused=old) == old
    clock(0.2)
    assert known.get("stripe", refused=old) == Credential("two")


def test_a_refused_credential_is_fetched_again_once(monkeypatch, clock):
    """A credential that another thread fetched meanwhile is used."""
    monkeypatch.setenv("MINE", "one")
    known = kept_at(stripe="env://MINE")
    old = known.get("stripe")
    monkeypatch.setenv("MINE", "two")
    new = known.get("stripe", refused=old)
    assert new == Credential("two")
    monkeypatch.setenv("MINE", "three")
    assert known.get("stripe", refused=old) == new
    assert known.get("stripe", refused=new) == Credential("three")


def test_concurrent_calls_fetch_once(tmp_path):
    """Calls that start together read the source once."""
    asked = tmp_path / "asked"
    script = tmp_path / "get"
    script.write_text(f"#!/bin/sh\necho asked >> {asked}\nsleep 0.2\necho {SECRET}\n")
    script.chmod(0o700)
    known = kept_at(stripe=f"exec://{script}")
    got: list[Credential] = []
    threads = [threading.Thread(target=lambda: got.append(known.get("stripe"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [Credential(SECRET)] * 8
    assert asked.read_text().count("asked") == 1


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"STRIPE_API_KEY": "sk"}, {"stripe": ("sk", "")}),
        ({"STRIPE_SECRET_KEY": "sk"}, {"stripe": ("sk", "")}),
        ({"STRIPE_API_KEY": "one", "STRIPE_SECRET_KEY": "two"}, {"stripe": ("one", "")}),
        ({"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t"}, {"twilio": ("t", "AC1")}),
        ({"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "s"}, {"twilio": ("s", "SK1")}),
        ({"RESEND_API_KEY": "re"}, {"resend": ("re", "")}),
        ({"TWILIO_ACCOUNT_SID": "AC1"}, {}),
        ({}, {}),
    ],
)
def test_without_configuration_the_environment_is_read(monkeypatch, environ, found):
    """The variables are those of the vendors' own tools, and a user name without a secret does not count."""
    for choices in credentials.FROM_ENVIRONMENT.values():
        for names in choices:
            for name in names.values():
                monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    known = kept_at()
    for vendor in ("stripe", "twilio", "resend"):
        if vendor in found:
            assert tuple(known.get(vendor)) == found[vendor]
        else:
            with pytest.raises(CredentialError, match=f"no credential for {vendor}; set "):
                known.get(vendor)


def test_an_invalid_variable_is_named(monkeypatch):
    """The error names the variable instead of asking to set it, and a valid second variable is used."""
    monkeypatch.setenv("STRIPE_API_KEY", f"{SECRET}\n")
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    with pytest.raises(
        CredentialError, match=r"^stripe: env://STRIPE_API_KEY holds something that"
    ):
        kept_at().get("stripe")
    monkeypatch.setenv("STRIPE_SECRET_KEY", SECRET)
    assert kept_at().get("stripe") == Credential(SECRET)


def test_the_configuration_goes_before_the_environment(monkeypatch):
    """If the configured source fails, the environment is not used instead."""
    monkeypatch.setenv("STRIPE_API_KEY", "sk_of_somebody_else")
    monkeypatch.setenv("MINE", "mine")
    assert kept_at(stripe="env://MINE").get("stripe") == Credential("mine")
    monkeypatch.delenv("MINE")
    with pytest.raises(CredentialError, match=r"^credentials.stripe: env://MINE is not set"):
        kept_at(stripe="env://MINE").get("stripe")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is empty"),
        ("hunter2\nhunter3", "characters that no header may carry"),
        ("hunter2é", "characters that no header may carry"),
        ("hunter2" * 200, "longer than 1024 characters"),
        ("kb_live_hunter2", "it is a vault key"),
        ("hunter2 hunter3", "characters that no header may carry"),
        (" hunter2", "characters that no header may carry"),
        ("hunter2 \n", "characters that no header may carry"),
        ('{"api_key": "hunter2"}', "it is a JSON object; name its key, as in #/api_key"),
        ('{\n  "a": "hunter2"\n}\n', "it is a JSON object; name its key, as in #/api_key"),
        ('{"a": "' + "hunter2" * 200 + '"}', "it is a JSON object; name its key, as in #/api_key"),
    ],
)
def test_an_invalid_secret_is_refused_and_not_shown(tmp_path, content, why):
    """The error says why the content of a file is no credential, without the content."""
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(CredentialError) as refused:
        kept_at(stripe=f"file://{file}").get("stripe")
    assert why in str(refused.value)
    assert f"file://{file}" in str(refused.value)
    assert "hunter" not in in_reach(refused.value)


def test_no_error_has_the_secret(tmp_path):
    """Neither its text nor its frames and context contain it, as tracebacks with locals show them."""
    file = tmp_path / "secret"
    file.write_text(f'{{"key": ["{SECRET}"]}}')
    with pytest.raises(CredentialError) as refused:
        kept_at(stripe=f"file://{file}#/key").get("stripe")
    assert SECRET not in in_reach(refused.value)


def test_a_secret_is_usable_but_not_shown():
    """It works as a string, but repr and pickle contain a placeholder."""
    secret = Secret(SECRET)
    credential = Credential(secret, "AC1")
    assert f"{secret}" == SECRET
    assert credential.authorization.startswith("Basic ")
    assert Credential(secret).authorization == f"Bearer {SECRET}"
    for thing in (secret, credential, credential.authorization, [secret], {"key": secret}):
        assert SECRET not in repr(thing)
        assert "QUMx" not in repr(thing)
        assert SECRET.encode() not in pickle.dumps(thing)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert pickle.loads(pickle.dumps(secret)) == "<credential>"


def test_another_configuration_has_other_credentials(monkeypatch):
    """A credential that was fetched for one configuration is not used for the next."""
    monkeypatch.setenv("A", "a")
    monkeypatch.setenv("B", "b")
    keybrake.configure(credentials={"stripe": "env://A"})
    first = credentials.current()
    assert first.get("stripe") == Credential("a")
    assert credentials.current() is first
    keybrake.configure(credentials={"stripe": "env://B"})
    assert credentials.current().get("stripe") == Credential("b")


@pytest.mark.parametrize(
    ("vendor", "names"),
    [
        ("stripe", "STRIPE_API_KEY"),
        ("twilio", "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        ("resend", "RESEND_API_KEY"),
        ("other", "it"),
    ],
)
def test_a_missing_credential_names_the_remedy(monkeypatch, vendor, names):
    """The error names the variables to set and the section to write."""
    for choices in credentials.FROM_ENVIRONMENT.values():
        for names_of_parts in choices:
            for name in names_of_parts.values():
                monkeypatch.delenv(name, raising=False)
    with pytest.raises(CredentialError) as told:
        kept_at().get(vendor)
    assert str(told.value) == (
        f"no credential for {vendor}; set {names}, or say where it is kept under [credentials] in keybrake.toml"
    )


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("kb_live_x", "it is a vault key"),
        ("a\nb", "it has characters that no header may carry"),
        ("\u00e4", "it has characters that no header may carry"),
        ("a" * 1025, "it is longer than 1024 characters"),
    ],
)
def test_an_invalid_value_is_described_and_not_shown(monkeypatch, value, what):
    """The error says why the value of a variable is no credential, without the value."""
    monkeypatch.setenv("MINE", value)
    with pytest.raises(CredentialError) as told:
        kept_at(stripe="env://MINE").get("stripe")
    assert str(told.value).endswith(f"holds something that is no credential: {what}")
    monkeypatch.setenv("MINE", "a" * 1024)
    assert len(kept_at(stripe="env://MINE").get("stripe").secret) == 1024


def test_one_vendor_does_not_wait_for_another(monkeypatch, tmp_path):
    """A slow source delays only calls of its own vendor."""
    monkeypatch.setenv("MINE", "one")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 2\nprintf two\n")
    slow.chmod(0o755)
    known = kept_at(stripe=f"exec://{slow}", resend="env://MINE")
    waiting = threading.Thread(target=known.get, args=("stripe",))
    waiting.start()
    assert known.get("resend") == Credential("one")
    assert waiting.is_alive()
    waiting.join()
    assert known.kept("stripe") == Credential("two")


def test_a_reference_in_an_error_is_redacted(tmp_path):
    """The error leaves out the arguments of a command and every text that looks like a key."""
    for place in ("exec://false?args=--token%20hunter2", f"file://{tmp_path}/{SECRET}"):
        with pytest.raises(CredentialError) as refused:
            kept_at(stripe=place).get("stripe")
        assert not any(part in str(refused.value) for part in ("hunter2", "4eC39"))
        assert ("exec://false?… ended" in str(refused.value)) is place.startswith("exec")
