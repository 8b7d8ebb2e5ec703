"""Each source returns its secret, sees a rotated one, and reports failures without the secret."""

import os
import sys
import threading

import pytest

from keybrake.config.references import Reference, schemes
from keybrake.credentials import SourceFailed
from keybrake.credentials.source import source

SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


def fetch(scheme, path, **facts):
    """Return a secret through a source."""
    return source(scheme).fetch(Reference(scheme, str(path), **facts))


def why_not(scheme, path, **facts):
    """Return the error text of a source."""
    with pytest.raises(SourceFailed) as refused:
        fetch(scheme, path, **facts)
    assert SECRET not in str(refused.value)
    return str(refused.value)


# The environment


def test_a_variable_is_read_now(monkeypatch):
    """The current value counts, not the value at the start of the process."""
    assert why_not("env", "MINE") == "is not set in this process's environment"
    monkeypatch.setenv("MINE", SECRET)
    assert fetch("env", "MINE") == SECRET
    monkeypatch.setenv("MINE", '{"key": "rotated"}')
    assert fetch("env", "MINE", keys=("key",)) == "rotated"


# A file


def test_a_file_is_read_without_its_final_line_end(tmp_path):
    """One final line end is dropped, and the newest content counts."""
    file = tmp_path / "secret"
    for content in (SECRET, f"{SECRET}\n", f"{SECRET}\r\n"):
        file.write_bytes(content.encode())
        assert fetch("file", file) == SECRET
    file.write_text('{"key": "rotated"}\n')
    assert fetch("file", file, keys=("key",)) == "rotated"


def test_a_replaced_link_is_followed(tmp_path):
    """Kubernetes rotates a mounted secret by moving a symbolic link."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    assert fetch("file", link) == "one"
    (tmp_path / "new").symlink_to(tmp_path / "two")
    (tmp_path / "new").replace(link)
    assert fetch("file", link) == "two"


def test_an_unreadable_file_is_reported(tmp_path):
    """Each cause has its own error text, and a named pipe does not block."""
    assert why_not("file", tmp_path / "none") == "cannot be read: No such file or directory"
    assert why_not("file", tmp_path) in ("is no ordinary file", "cannot be read: Is a directory")
    os.mkfifo(tmp_path / "pipe")
    assert why_not("file", tmp_path / "pipe") == "is no ordinary file"
    (tmp_path / "large").write_text("x" * (64 * 1024 + 1))
    assert why_not("file", tmp_path / "large") == "is larger than 64 KiB"
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert why_not("file", tmp_path / "bytes") == "is no text in UTF-8"


# A command


@pytest.fixture
def command(tmp_path):
    """Return a function that creates a script."""

    def make(body: str) -> str:
        script = tmp_path / "get"
        script.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        script.chmod(0o700)
        return str(script)

    return make


def test_a_command_runs_without_a_shell(command):
    """It gets its arguments unchanged, and an empty standard input."""
    path = command("assert sys.stdin.read() == ''\nprint('-'.join(sys.argv[1:]))")
    assert (
        fetch("exec", path, params=(("args", "read 'op://a b' $HOME;x"),))
        == "read-op://a b-$HOME;x"
    )
    assert fetch("exec", command("print('{\"key\": 5}')"), keys=("key",)) == "5"


def test_a_failing_command_is_reported(command, monkeypatch, capfd):
    """The output of a failed command is neither used as the secret nor shown."""
    path = command(f"print('{SECRET}'); print('locked', file=sys.stderr); sys.exit(3)")
    assert why_not("exec", path) == "ended with exit code 3"
    assert capfd.readouterr().err == "locked\n"
    assert why_not("exec", "/nowhere/get") == "cannot be run: No such file or directory"
    assert why_not("exec", "get", params=(("args", "'"),)).startswith(
        "has args that cannot be read"
    )
    monkeypatch.setattr("keybrake.credentials.exec._TIMEOUT_S", 0.1)
    assert why_not("exec", command("import time; time.sleep(20)")) == "did not end within 0.1 s"


# All sources


def test_each_scheme_is_an_entry_point():
    """Another package can add a scheme with an entry point."""
    assert {"env", "file", "exec"} <= set(schemes())


def test_a_source_whose_package_is_missing_names_the_extra(monkeypatch):
    """The source is loaded on first use, and the error names the extra to install."""

    class Point:
        name, dist = "pony", type("Dist", (), {"name": "keybrake"})

        def load(self) -> object:
            msg = "No module named 'ponies'"
            raise ModuleNotFoundError(msg, name="ponies")

    monkeypatch.setattr("keybrake.credentials.source.schemes", lambda: {"pony": Point()})
    assert why_not("pony", "x") == "needs ponies; pip install 'keybrake[pony]'"


def test_threads_share_a_source(monkeypatch):
    """Threads that load a source at the same time get the same instance."""
    monkeypatch.setattr("keybrake.credentials.source._sources", {})
    all_there, made = threading.Barrier(8), []

    def load() -> None:
        all_there.wait()
        made.append(source("env"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(one) for one in made} == {id(source("env"))}
