"""Is what is public there, written down, typed, and light to import?"""

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keybrake
from tests._each import each

API = Path(__file__).parent / "typing" / "api.py"
# filelock is not among them: its fork hooks have to be there before ours (ledger/_forking.py).
HEAVY = [
    "stripe", "twilio", "resend", "click", "rich", "sqlite_utils", "wrapt", "sqlite3", "aiohttp", "psycopg",
    "requests", "httpx",
]  # fmt: skip


def test_all_is_what_is_there():
    """``__all__`` names each public name once, and every one of them exists."""
    for name in keybrake.__all__:
        assert getattr(keybrake, name) is not None
    assert dir(keybrake) == keybrake.__all__
    with pytest.raises(AttributeError, match="no attribute 'no_name'"):
        _ = keybrake.no_name
    assert sorted(keybrake.__all__) == keybrake.__all__


def test_the_stub_has_the_names_of_the_module():
    """Type checkers read ``__init__.pyi``: it imports each name from the module that has it."""
    tree = ast.parse(Path(keybrake.__file__).with_suffix(".pyi").read_text("utf-8"))
    imported = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert sorted({*imported, "__version__"}) == keybrake.__all__
    for name, home in imported.items():
        assert getattr(importlib.import_module(home), name) is getattr(keybrake, name)


def test_importing_loads_no_more_than_the_start_of_the_process():
    """The modules behind the public names are loaded when a name is first used."""
    code = "import sys, keybrake; print([m for m in sys.modules if m.startswith('keybrake.')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(ran.stdout)

    assert "keybrake.config.started_under" in loaded
    assert not [
        name for name in loaded if not name.startswith(("keybrake.config", "keybrake.model"))
    ]
    assert "importlib.metadata" not in ran.stdout


def test_the_names_of_the_design_are_public():
    """What the documentation promises can be imported from the top."""
    assert {
        "run", "issue_vault_key", "tool", "Policy", "Limit", "Run", "VaultKey", "current_run", "revoke", "pause",
        "resume", "bind", "unguarded", "install", "uninstall", "configure", "open_ledger", "errors",
    } <= set(keybrake.__all__)  # fmt: skip


def test_importing_loads_nothing_heavy():
    """No SDK, command line, database or HTTP client comes with ``import keybrake``."""
    code = (
        f"import json, sys, keybrake; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == []


def test_importing_writes_and_patches_nothing(tmp_path):
    """Importing changes neither the file system nor the thread and pool classes."""
    code = (
        "import threading, concurrent.futures as f; a = threading.Thread.start; "
        "b = f.ThreadPoolExecutor.submit; import keybrake; "
        "assert (a, b) == (threading.Thread.start, f.ThreadPoolExecutor.submit)"
    )
    env = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)

    assert list(tmp_path.iterdir()) == []


def documented() -> list[object]:
    """Return every public function and class, and the public methods of the classes."""
    found = []
    for name in keybrake.__all__:
        value = getattr(keybrake, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            found.append(value)
        if inspect.isclass(value):
            found += [
                member
                for key, member in vars(value).items()
                if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
            ]  # fmt: skip
    return found


@each("thing", documented(), ids=lambda t: getattr(t, "__qualname__", "property"))
def test_everything_public_says_what_it_does(thing):
    """A docstring begins with one line that ends in a period, or draws the tree."""
    first = inspect.cleandoc(thing.__doc__).splitlines()[0]

    assert first[0].isupper() or first.startswith("``")
    assert first.endswith((".", ":"))


@pytest.mark.parametrize("name", ["run", "issue_vault_key", "tool", "configure"])
def test_every_parameter_is_documented(name):
    """The documentation of a verb names each of its parameters."""
    function = getattr(keybrake, name)

    for parameter in inspect.signature(function).parameters:
        assert f"    {parameter}: " in inspect.getdoc(function)


def test_the_package_says_that_it_is_typed():
    """Type checkers of users read our annotations."""
    assert (Path(keybrake.__file__).parent / "py.typed").is_file()


def test_the_public_types_are_what_users_write(tmp_path):
    """A file that uses every public signature is clean under ``mypy --strict``."""
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    command += ["--enable-error-code=unused-ignore", "--cache-dir", str(tmp_path), str(API)]
    ran = subprocess.run(command, cwd=API.parents[2], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_typed_file_uses_every_public_name():
    """No public name is left out of the file that is type-checked."""
    text = API.read_text("utf-8")

    assert [name for name in keybrake.__all__ if f"keybrake.{name}" not in text] == []
