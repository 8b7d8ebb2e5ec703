"""Does ``keybrake init`` write a configuration that holds."""

import re
from importlib import resources

import pytest

from keybrake import Policy
from keybrake.config import references
from keybrake.config import settings as config_settings
from keybrake.errors import PolicyError

TEMPLATE = resources.files("keybrake.cli.commands").joinpath("keybrake.toml").read_text("utf-8")


def settings():
    """Yield each setting with the table it stands in."""
    table = ""
    for line in re.findall(r"^#(?=\S)(.+)$", TEMPLATE, re.MULTILINE):
        if line.startswith("["):
            table = line
        else:
            yield table, line


SETTINGS = list(settings())


def test_init_writes_a_file_that_changes_nothing(cli, tmp_path, monkeypatch):
    """The file loads as it is, and every setting in it is the default."""
    told = cli("init")

    assert told.code == 0
    monkeypatch.chdir(tmp_path)
    written = config_settings.load()
    assert written.source == "keybrake.toml"
    assert (written.policies, written.extra_hosts) == ({}, {})
    assert written.ledger == config_settings.default_ledger()


def test_where_it_is_as_json(cli, tmp_path):
    """And that another file is the one in force, if that is so."""
    told = cli("init", "--json", KEYBRAKE_CONFIG="other/keybrake.toml")
    assert told.json == {"file": str(tmp_path / "keybrake.toml")}
    assert told.err == (
        "keybrake: KEYBRAKE_CONFIG=other/keybrake.toml is the file in force, not this one\n"
    )
    assert cli("init", "--force", KEYBRAKE_CONFIG="./keybrake.toml").err == ""


def test_every_setting_in_it_is_one_that_keybrake_knows(cli, tmp_path, monkeypatch):
    """With the comment marks taken away it loads as well, down to its policy."""
    cli("init")
    file = tmp_path / "keybrake.toml"
    file.write_text(re.sub(r"^#(?=\S)", "", file.read_text(), flags=re.MULTILINE))

    monkeypatch.chdir(tmp_path)
    config = config_settings.load()

    assert config.ledger == f"sqlite:///{tmp_path / 'ledger.db'}"
    assert config.money.usd_per.keys() == {"eur", "jpy"}
    assert config.proxies == ("http://proxy.example:3128",)
    assert config.credentials.keys() == {"stripe", "twilio", "resend"}
    assert config.extra_hosts == {"stripe": ("http://127.0.0.1:12111",)}
    assert config.accounts == {"stripe": ("acct_1Abc",)}
    assert (config.credentials_ttl, config.lock_timeout) == (300, 10)
    assert Policy.from_mapping(config.policies["refund-agent"], where="here").cap == 200
    assert cli("policy", "check").out.count("refund-agent") == 1


@pytest.mark.parametrize(("table", "line"), SETTINGS, ids=lambda said: said.partition(" ")[0])
def test_every_setting_in_it_may_be_the_only_one(quick, tmp_path, table, line):
    """Each line is accepted with nothing but its table before it, and what a policy must say."""
    cap = "cap = 1\n" if table.startswith("[policies.") and not line.startswith("cap ") else ""
    (tmp_path / "keybrake.toml").write_text(f"{table}\n{cap}{line}\n")

    told = quick("policy", "check")

    assert (told.code, told.out.splitlines()[0]) == (0, "keybrake.toml has no mistakes")


def test_every_place_it_names_can_be_read():
    """Each reference in it, also in its prose, is one for which there is a source."""
    named = re.findall(r'"([a-z]+://[^"]+)"', TEMPLATE)
    places = [name for name in named if not name.startswith(("http://", "sqlite://"))]

    schemes = {references.readable(name, "here").scheme for name in places}
    assert schemes >= {"env", "vault", "op", "awssecrets"}


def test_no_setting_of_the_configuration_is_missing():
    """Every key that keybrake.toml may have at its top is shown."""
    with pytest.raises(PolicyError) as told:
        config_settings.parse({"x": 1}, source="f", default=config_settings.Config("sqlite:///x"))

    known = str(told.value).rpartition("known are ")[2].split(", ")
    assert [key for key in known if not re.search(rf"^#\[?{key}\b", TEMPLATE, re.MULTILINE)] == []


def test_init_keeps_a_file_that_is_there(quick, tmp_path):
    """A configuration that is there is replaced with --force only."""
    file = tmp_path / "keybrake.toml"
    file.write_text("# mine\n")

    told = quick("init")

    assert (told.code, told.out) == (1, "")
    assert file.read_text() == "# mine\n"
    assert quick("init", "--force").code == 0
    assert "policies" in file.read_text()
