"""The right ``keybrake.toml`` is found: in parent folders within bounds, and never another user's."""

import os
from pathlib import Path

import pytest

import keybrake
from keybrake import PolicyError
from keybrake.config import config_file, settings

POLICY = "[policies.refunds]\ncap = 5\n[policies.reader]\ncap = 1\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a home folder, and move the process out of all its folders."""
    made = tmp_path / "home"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    return made


def write(folder: Path, text: str = POLICY) -> Path:
    """Create a folder with a config file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "keybrake.toml"
    file.write_text(text)
    file.chmod(0o644)
    return file


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *folder* the working directory of a process that has read no configuration yet."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    settings.set_current(None)


def belong_to_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the file to another user, or become another user if that is not allowed."""
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


@pytest.mark.parametrize("git", ["folder", "file"])
def test_a_file_at_the_repository_root_is_found(tmp_path, home, monkeypatch, git):
    """A program in a subfolder takes the file of its repository; a worktree has a ``.git`` file."""
    file = write(tmp_path / "repo")
    (file.parent / ".git").mkdir() if git == "folder" else (file.parent / ".git").touch()
    enter(tmp_path / "repo" / "agents" / "billing", monkeypatch)

    assert config_file.find_file() == file
    assert keybrake.run("a", policy="refunds").remaining == 5


def test_a_file_in_the_home_folder_is_found(home, monkeypatch):
    """A program in no repository, below the home folder, takes the file of the home folder."""
    file = write(home)
    enter(home / "scripts" / "nightly", monkeypatch)

    assert config_file.find_file() == file


def test_a_home_folder_behind_a_link_is_the_home_folder(tmp_path, home, monkeypatch):
    """Where ``HOME`` is a link, as on some servers, the folder it leads to counts."""
    file = write(home)
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    enter(home / "scripts", monkeypatch)

    assert config_file.find_file() == file


def test_the_nearest_file_is_taken(home, monkeypatch):
    """Of several files the one nearest to the working directory is in force, alone."""
    write(home)
    nearest = write(home / "repo" / "agents", "[policies.near]\ncap = 2\n")
    write(home / "repo")
    (home / "repo" / ".git").mkdir()
    enter(nearest.parent / "billing", monkeypatch)

    assert config_file.find_file() == nearest
    assert list(settings.current().policies) == ["near"]


def test_nothing_above_the_repository_is_read(home, monkeypatch):
    """The search ends at the repository's root, although the home folder above has a file."""
    write(home)
    (home / "repo" / ".git").mkdir(parents=True)
    enter(home / "repo" / "agents", monkeypatch)

    assert config_file.find_file() is None


def test_nothing_above_the_home_folder_is_read(tmp_path, home, monkeypatch):
    """The search ends at the home folder, although a repository around it has a file."""
    write(tmp_path)
    (tmp_path / ".git").mkdir()
    enter(home / "scripts", monkeypatch)

    assert config_file.find_file() is None


def test_outside_of_both_only_the_working_directory_is_read(tmp_path, home, monkeypatch):
    """A folder such as ``/srv/app`` has no boundary above it, so no folder above it counts."""
    write(tmp_path / "srv")
    enter(tmp_path / "srv" / "app", monkeypatch)
    assert config_file.find_file() is None

    write(tmp_path / "srv" / "app")
    assert config_file.find_file() == Path("keybrake.toml")


def test_a_deleted_working_directory_has_no_file(tmp_path, monkeypatch):
    """A process whose working directory is gone runs on without a configuration."""
    enter(tmp_path / "gone", monkeypatch)
    (tmp_path / "gone").rmdir()

    assert config_file.find_file() is None
    monkeypatch.chdir(tmp_path)


def test_the_ledger_of_a_file_above_lies_beside_that_file(tmp_path, home, monkeypatch):
    """A relative ledger means one file for the whole repository, not one for each folder."""
    write(tmp_path / "repo", 'ledger = "sqlite:///ledger.db"\n')
    (tmp_path / "repo" / ".git").mkdir()
    enter(tmp_path / "repo" / "agents", monkeypatch)

    assert settings.current().ledger == f"sqlite:///{tmp_path / 'repo' / 'ledger.db'}"


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_another_user_is_not_taken_from_above(tmp_path, home, monkeypatch, linked):
    """A file of another user, or a link of theirs to a file of this user, could raise caps unnoticed."""
    file = write(tmp_path / "repo")
    (file.parent / ".git").mkdir()
    if linked:
        file.rename(tmp_path / "mine.toml")
        file.symlink_to(tmp_path / "mine.toml")
    belong_to_another_user(file, monkeypatch)
    enter(file.parent / "agents", monkeypatch)

    with pytest.raises(PolicyError) as refused:
        keybrake.run("a", policy="refunds")
    assert f"{file}: belongs to another user" in str(refused.value)
    assert "or name it by KEYBRAKE_CONFIG" in str(refused.value)

    monkeypatch.setenv("KEYBRAKE_CONFIG", str(file))
    settings.set_current(None)
    assert keybrake.run("a", policy="refunds").remaining == 5


def test_a_file_that_every_user_may_write_is_not_taken_from_above(tmp_path, home, monkeypatch):
    """A file with mode 0666 is refused in a parent folder, and accepted in the working directory."""
    file = write(tmp_path / "repo")
    (file.parent / ".git").mkdir()
    file.chmod(0o666)
    enter(file.parent / "agents", monkeypatch)
    with pytest.raises(PolicyError, match="may be written by every user"):
        keybrake.install()

    enter(file.parent, monkeypatch)
    assert keybrake.run("a", policy="refunds").remaining == 5


def test_an_unknown_policy_names_the_file_and_the_nearest_name(tmp_path, home, monkeypatch):
    """The error has the absolute path of the file and the most similar name."""
    file = write(tmp_path / "repo")
    enter(file.parent, monkeypatch)

    with pytest.raises(PolicyError) as refused:
        keybrake.run("a", policy="refund")
    assert str(refused.value) == (
        f"policy='refund' is unknown: {file} has reader, refunds; did you mean 'refunds'?"
    )


def test_an_unknown_policy_in_a_file_without_any_names_the_file(tmp_path, home, monkeypatch):
    """A file that has no policy at all is named too."""
    file = write(tmp_path / "repo", "lock_timeout = 2\n")
    enter(file.parent, monkeypatch)

    with pytest.raises(PolicyError, match="has no policy") as refused:
        keybrake.issue_vault_key("s", policy="refund")
    assert str(file) in str(refused.value)


def test_an_unknown_policy_without_a_file_names_the_folders(home, monkeypatch):
    """The error says in which folders no file was found."""
    (home / "repo" / ".git").mkdir(parents=True)
    enter(home / "repo" / "agents", monkeypatch)

    with pytest.raises(PolicyError) as refused:
        keybrake.run("a", policy="refunds")
    assert str(refused.value) == (
        f"policy='refunds' is unknown: no keybrake.toml was found in {home / 'repo' / 'agents'}, "
        f"{home / 'repo'}; make one (keybrake init), or name it by KEYBRAKE_CONFIG"
    )


def test_the_file_is_searched_once(home, monkeypatch):
    """A later change of the working directory does not change the configuration."""
    write(home)
    enter(home / "a", monkeypatch)
    first = settings.current()
    write(home / "b", "[policies.other]\ncap = 9\n")
    monkeypatch.chdir(home / "b")

    assert settings.current() is first
