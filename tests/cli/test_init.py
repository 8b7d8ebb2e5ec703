"""Does ``keybrake init`` write a configuration that holds."""

import re

from keybrake import Policy, _config


def test_init_writes_a_file_that_changes_nothing(cli, tmp_path, monkeypatch):
    """The file loads as it is, and every setting in it is the default."""
    told = cli("init")

    assert told.code == 0
    monkeypatch.chdir(tmp_path)
    written = _config.load()
    assert written.source == "keybrake.toml"
    assert (written.policies, written.extra_hosts) == ({}, {})
    assert written.ledger == _config.default_ledger()


def test_every_setting_in_it_is_one_that_keybrake_knows(cli, tmp_path, monkeypatch):
    """With the comment marks taken away it loads as well, down to its policy."""
    cli("init")
    file = tmp_path / "keybrake.toml"
    file.write_text(re.sub(r"^#(?=\S)", "", file.read_text(), flags=re.MULTILINE))

    monkeypatch.chdir(tmp_path)
    config = _config.load()

    assert config.ledger == "sqlite:///ledger.db"
    assert config.money.usd_per.keys() == {"eur", "jpy"}
    assert Policy.from_mapping(config.policies["refund-agent"], where="here").cap == 200
    assert cli("doctor").out.count("refund-agent") == 1


def test_init_keeps_a_file_that_is_there(quick, tmp_path):
    """A configuration that is there is replaced with --force only."""
    file = tmp_path / "keybrake.toml"
    file.write_text("# mine\n")

    told = quick("init")

    assert (told.code, told.out) == (1, "")
    assert file.read_text() == "# mine\n"
    assert quick("init", "--force").code == 0
    assert "policies" in file.read_text()
