"""A real Vault server returns secrets, by token and by AppRole, and errors say why not."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from keybrake.config.credential_locations import places
from keybrake.config.references import Reference, Unreadable, parse
from keybrake.credentials import Credential, Credentials, SourceFailed
from keybrake.credentials.vault import VaultSource

pytestmark = pytest.mark.system

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start OpenBao in memory, and stop it; its root token is "root"."""
    port = free_port()
    bao = Path(sys.executable).with_name("bao")
    arguments = ["-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"]
    ran = subprocess.Popen(
        [bao, "server", *arguments, "-dev-no-store-token"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    ran.terminate()
    ran.wait(20)


@pytest.fixture
def root(server, monkeypatch, tmp_path):
    """Return a client of the operator, with a key-value engine of each version."""
    import hvac

    for name in [name for name in os.environ if name.startswith(("VAULT_", "BAO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_ADDR", server)
    client = hvac.Client(url=server, token="root")
    mounts = client.sys.list_mounted_secrets_engines()["data"]
    if "old/" not in mounts:
        client.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
    keep(client, SECRET)
    return client


def keep(client, secret):
    """Write a secret to both engines."""
    values = {"api_key": secret, "other": "x"}
    client.secrets.kv.v2.create_or_update_secret(path="agents/stripe", secret=values)
    client.secrets.kv.v1.create_or_update_secret(path="stripe", secret=values, mount_point="old")


def token(client, **facts):
    """Return a read-only token."""
    client.sys.create_or_update_policy(
        "reads",
        'path "secret/data/*" {capabilities = ["read"]}\npath "old/*" {capabilities = ["read"]}',
    )
    return client.auth.token.create(policies=["reads"], **facts)["auth"]["client_token"]


def fetch(source, path="secret/agents/stripe", keys=("api_key",), **facts):
    """Return a secret through a Vault source."""
    return source.fetch(Reference("vault", path, tuple(facts.items()), keys))


@pytest.mark.parametrize("path", ["secret/agents/stripe", "old/stripe", "/old/stripe/"])
def test_both_engines_are_read(root, monkeypatch, path):
    """The server tells the version of the engine, and a rotated secret is seen."""
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    source = VaultSource()
    assert fetch(source, path) == SECRET
    keep(root, "rotated")
    assert fetch(source, path) == "rotated"


@pytest.mark.parametrize("scheme", ["vault", "openbao"])
def test_a_rotated_secret_is_seen(root, monkeypatch, scheme):
    """The new secret is fetched after the TTL, and at once if the vendor refused the old one."""
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    reference = parse(f"{scheme}://secret/agents/stripe#/api_key", "stripe")
    lasting, short = (Credentials({"stripe": {"secret": reference}}, ttl) for ttl in (3600, 0.01))
    assert lasting.get("stripe") == short.get("stripe") == Credential(SECRET)
    keep(root, "rotated")
    assert lasting.get("stripe") == Credential(SECRET)
    time.sleep(0.02)
    assert short.get("stripe") == Credential("rotated")
    assert lasting.get("stripe", refused=Credential(SECRET)) == Credential("rotated")


def test_a_token_without_the_default_policy_works(root, monkeypatch):
    """Such a token may read its secrets, but not look up itself or the mounts."""
    monkeypatch.setenv("VAULT_TOKEN", token(root, no_default_policy=True))
    assert fetch(VaultSource()) == fetch(VaultSource(), "old/stripe") == SECRET


def test_an_older_version_may_be_named(root, monkeypatch):
    """The parameter version is that of the tool vals."""
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    keep(root, "newer")
    known = root.secrets.kv.v2.read_secret_metadata(path="agents/stripe")["data"]
    newest = known["current_version"]
    assert fetch(VaultSource(), version=str(newest - 1)) == SECRET


def test_the_reference_can_name_the_address(root, server, monkeypatch):
    """It takes precedence over the address in the environment."""
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    assert fetch(VaultSource(), address=server) == SECRET


def test_the_token_file_is_read(root, tmp_path):
    """The file ~/.vault-token, which the vault command writes, is read."""
    (tmp_path / ".vault-token").write_text(token(root))
    assert fetch(VaultSource()) == SECRET


def test_an_approle_logs_in_again_when_its_token_expires(root, monkeypatch):
    """AppRole needs only a role id and a secret id, and no token."""
    token(root)  # creates the policy
    if "approle/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle(
        "agent", token_policies=["reads"], token_ttl="1s", token_max_ttl="1s"
    )
    role = root.auth.approle.read_role_id("agent")["data"]["role_id"]
    monkeypatch.setenv("VAULT_ROLE_ID", role)
    secret_id = root.auth.approle.generate_secret_id("agent")["data"]["secret_id"]
    monkeypatch.setenv("VAULT_SECRET_ID", secret_id)
    source = VaultSource()
    assert fetch(source) == SECRET
    time.sleep(1.5)
    assert fetch(source) == SECRET


def test_a_token_is_renewed_while_it_is_used(root, monkeypatch):
    """A used token outlives its TTL, and an unused one expires."""
    monkeypatch.setenv("VAULT_TOKEN", token(root, ttl="2s", explicit_max_ttl="60s"))
    source = VaultSource()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert fetch(source) == SECRET
        time.sleep(0.3)
    time.sleep(2.5)
    with pytest.raises(SourceFailed, match="may not be read with this token or role"):
        fetch(source)


def test_a_changed_token_is_used(root, monkeypatch):
    """A new token in the environment needs no restart."""
    source = VaultSource()
    monkeypatch.setenv("VAULT_TOKEN", "no such token")
    with pytest.raises(SourceFailed, match="may not be read"):
        fetch(source)
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    assert fetch(source) == SECRET


@pytest.mark.parametrize(
    ("path", "keys", "why"),
    [
        ("secret/agents/none", ("api_key",), "is not there"),
        ("secret/agents/stripe", ("none",), "has no #/none"),
        ("secret/agents/stripe", (), "holds 2 values; write which one: #/KEY"),
        ("nowhere/stripe", ("api_key",), "may not be read"),
    ],
)
def test_a_missing_secret_is_reported(root, monkeypatch, path, keys, why):
    """The error contains no part of the existing secret."""
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    with pytest.raises((SourceFailed, Unreadable), match=why) as refused:
        fetch(VaultSource(), path, keys)
    assert SECRET not in str(refused.value)


def test_a_secret_of_one_value_needs_no_key(root, monkeypatch):
    """Without a key the only value is returned."""
    root.secrets.kv.v2.create_or_update_secret(path="agents/one", secret={"value": SECRET})
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    assert fetch(VaultSource(), "secret/agents/one", ()) == SECRET


def test_a_server_that_is_down_is_named(root, monkeypatch):
    """The error names the server, so that a person can check it."""
    monkeypatch.setenv("VAULT_TOKEN", "hunter2")
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceFailed, match=f"{address} does not answer") as refused:
        fetch(VaultSource(), address=address)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "why"), [("VAULT_ADDR", "has no address; set VAULT_ADDR"), ("", "has no token; set")]
)
def test_missing_variables_are_named(root, monkeypatch, name, why):
    """The error names the environment variables to set."""
    if name:
        monkeypatch.delenv(name)
    with pytest.raises(SourceFailed, match=why):
        fetch(VaultSource())


def test_the_page_is_true(root, monkeypatch):
    """The keybrake.toml in docs/how-to/vault.md finds the secrets that the page names."""
    page = (Path(__file__).parents[2] / "docs/how-to/vault.md").read_text("utf-8")
    (written,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    monkeypatch.setenv("VAULT_TOKEN", token(root))
    root.secrets.kv.v2.create_or_update_secret(
        path="agents/twilio", secret={"sid": "AC1", "token": "t"}
    )
    root.secrets.kv.v1.create_or_update_secret(
        path="resend", secret={"key": "re_1"}, mount_point="old"
    )
    found, ttl = places(tomllib.loads(written)["credentials"], "credentials")
    known = Credentials(found, ttl)
    assert known.get("stripe") == Credential(SECRET)
    assert known.get("twilio") == Credential("t", "AC1")
    assert known.get("resend") == Credential("re_1")
