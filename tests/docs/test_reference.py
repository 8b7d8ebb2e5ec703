"""Does the reference name everything there is: commands, reason codes, public names, config keys."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import keybrake
from keybrake import Policy
from keybrake.cli import app
from keybrake.config import credential_locations, settings
from keybrake.config import prices as price_list
from keybrake.vendors import VENDORS
from tests._each import each

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCE = sorted((ROOT / "keybrake").rglob("*.py"))
CODE = re.compile(r"[a-z]+(_[a-z]+)+")


def page(name: str) -> str:
    """Return a page of the reference."""
    return (REFERENCE / name).read_text("utf-8")


def section(name: str) -> str:
    """Return what the page on the command line says about one command."""
    _, _, rest = page("cli.md").partition(f"\n## {name}\n")
    return rest.partition("\n## ")[0]


@each("command", sorted(app.app.commands))
def test_every_command_has_a_section(command):
    """A command that can be typed is described on the page on the command line."""
    assert section(command).strip()


@each("command", sorted(app.app.commands))
def test_every_option_of_a_command_is_named(command):
    """A command's section names every option that the command takes."""
    options = {
        option
        for parameter in app.app.commands[command].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }

    # The three that steer runs say it once for all of them.
    said = section(command) + (section("revoke") if command in {"pause", "resume"} else "")

    assert set() == {option for option in options if option not in said}


def test_every_section_is_a_command():
    """The page on the command line describes no command that cannot be typed."""
    described = set(re.findall(r"^## ([a-z]+)$", page("cli.md"), re.MULTILINE))

    assert set(app.app.commands) == described


def reason_codes() -> Iterator[str]:
    """Yield every reason code that the source can put into a refusal."""
    for file in SOURCE:
        if "testing" in file.parts or "cli" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            yield from _codes_in(node)


def _codes_in(node: ast.AST) -> Iterator[str]:
    """Yield the reason codes that stand in one node."""
    if isinstance(node, ast.keyword) and node.arg == "reason":
        yield from _text(node.value)
    # a reason and its words, on the way to the refusal they become
    if isinstance(node, ast.Tuple) and len(node.elts) == 2 and _is_wording(node.elts[1]):
        yield from _text(node.elts[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "_refusal":
            yield from _text(node.args[1])
        if node.func.id == "_state":
            yield from (f"run_{word}" for word in _text(node.args[4], any_word=True))


def _is_wording(node: ast.AST) -> bool:
    """Return whether a node is the words that go with a reason code."""
    sentence = isinstance(node, ast.Constant) and " " in str(node.value)
    return sentence or isinstance(node, ast.JoinedStr | ast.Name)


def _text(node: ast.AST, *, any_word: bool = False) -> Iterator[str]:
    """Yield the text of a node, if it is one and looks like a code."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return
    if any_word or CODE.fullmatch(node.value):
        yield node.value


def documented_codes() -> dict[str, str]:
    """Return the codes on the page of errors, with the error each belongs to."""
    return dict(re.findall(r"^\| `([a-z_]+)` \| `(\w+)` \|", page("errors.md"), re.MULTILINE))


def test_every_reason_code_is_documented():
    """A reason code that the source can give is in the table of reason codes."""
    found = set(reason_codes())

    assert {"cap_exceeded", "no_rate", "run_revoked", "header_override"} <= found
    assert set() == found - set(documented_codes())


def test_every_documented_reason_code_is_in_the_source():
    """The table of reason codes has none that the source cannot give."""
    assert set() == set(documented_codes()) - set(reason_codes()) - {"host_not_allowed"}


def test_every_reason_code_names_an_error_there_is():
    """Each reason code is documented with a refusal of the public tree."""
    kinds = {getattr(keybrake, name) for name in documented_codes().values()}

    assert all(issubclass(kind, keybrake.CallRefused) for kind in kinds)


def _parent(kind):
    """Return the name of the branch that an error hangs on."""
    refusal = issubclass(kind, keybrake.CallRefused) and kind is not keybrake.CallRefused
    return "CallRefused" if refusal else "KeybrakeError"


def test_the_error_tree_on_the_page_is_that_of_the_source():
    """The tree of errors is drawn as the classes inherit."""
    drawn = re.findall(r"^((?:│   |    )*)[├└]── (\w+)", page("errors.md"), re.MULTILINE)
    parents = {name: "CallRefused" if indent else "KeybrakeError" for indent, name in drawn}
    real = {
        kind.__name__: _parent(kind)
        for kind in vars(keybrake.errors).values()
        if isinstance(kind, type) and issubclass(kind, keybrake.KeybrakeError)
    }
    del real["KeybrakeError"]

    assert real == parents


@each("name", [n for n in keybrake.__all__ if n != "errors"])
def test_every_public_name_is_documented(name):
    """A name that can be imported from keybrake has an entry in the API reference."""
    entry = re.compile(rf"^\.\. (?:auto\w+|py:data):: {name}\b", re.MULTILINE)

    assert entry.search(page("api.md"))


def test_every_config_key_is_documented():
    """Every key of keybrake.toml, and of a policy in it, is in the reference."""
    keys = set(re.findall(r"^\| `([\w.]+)` \|", page("config.md"), re.MULTILINE))
    policy = {field.name for field in fields(Policy)}
    money = {f"money.{name}" for name in settings.MONEY_KEYS}
    prices = {f"prices.{v}.{name}" for v, names in price_list.NAMES.items() for name in names}
    top = {"ledger", "lock_timeout", "durability", "policies.NAME", "proxies", "unguarded"}
    top |= {f"vendors.stripe.{name}" for name in settings.OF_A_VENDOR}
    credentials = {f"credentials.{name}" for name in (*credential_locations.VENDORS, "ttl")}

    assert top | money | prices | policy | credentials == keys


def test_the_documented_config_keys_are_all_there_are():
    """A key beside the documented ones is refused, so the list of them is complete."""
    with pytest.raises(keybrake.PolicyError, match="unknown key 'x'") as told:
        settings.parse({"x": 1}, source="f", default=settings.Config("sqlite:///x"))

    known = str(told.value).rpartition("known are ")[2].split(", ")
    assert known == sorted(
        [
            "credentials",
            "ledger",
            "lock_timeout",
            "durability",
            "money",
            "policies",
            "prices",
            "proxies",
            "unguarded",
            "vendors",
        ]
    )


def test_every_view_and_column_is_documented(tmp_path):
    """The page on views lists every view of a ledger, and its columns in their order."""
    parts = re.split(r"^## ", page("ledger-views.md"), flags=re.MULTILINE)[1:]
    documented = {
        part.split("`")[1]: re.findall(r"^\| `(\w+)`", part, re.MULTILINE) for part in parts
    }
    keybrake.open_ledger(tmp_path / "ledger.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as book:
        views = book.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
        real = {view: book.execute(f"SELECT * FROM {view}").description for (view,) in views}

    assert documented == {view: [name for name, *_ in columns] for view, columns in real.items()}


def _free_patterns():
    """Return the patterns of the table that says why a write is free."""
    _, _, rest = page("endpoints.md").partition("\n| free | why |\n|---|---|\n")
    rows = rest.partition("\n\n")[0].splitlines()
    return [pattern for row in rows for pattern in re.findall(r"`([\w.*]+)`", row.split(" | ")[0])]


def test_every_free_write_says_why_it_makes_nothing_dearer():
    """Each write that is free is under one reason of the page at least, and no reason is unused."""
    table = VENDORS["stripe"]._table.rows
    free = {row.endpoint.removeprefix("stripe.") for row in table if row.effect == "free"}
    hits = {pattern: set(fnmatch.filter(free, pattern)) for pattern in _free_patterns()}

    assert free == set().union(*hits.values())
    assert [pattern for pattern, found in hits.items() if not found] == []
    assert str(len(free)) in page("endpoints.md").partition("\n## Free\n")[2].partition("\n## ")[0]


def test_every_counted_endpoint_is_documented():
    """The endpoints whose money is counted are exactly those the page lists."""
    _, _, rest = page("endpoints.md").partition("\n## Counted\n")
    listed = set(re.findall(r"^\| `(stripe\.[\w.]+)` \|", rest.partition("\n## ")[0], re.MULTILINE))
    counted = {row.endpoint for row in VENDORS["stripe"]._table.rows if row.effect == "money"}

    assert counted == listed


def test_the_files_that_the_architecture_names_exist():
    """Each path on the page, and each file of the drawing, is a file or folder of the project."""
    page = (ROOT / "docs" / "concepts" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`((?:keybrake|tests)/[\w/.]+)`", page))
    drawn = set(
        re.findall(r"^[ │├└─]*((?:sdk|guard|vendors|ledger|policy)/[\w/]+\.py)", page, re.MULTILINE)
    )

    assert len(drawn) >= 8
    assert not [path for path in named if not (ROOT / path).exists()]
    assert not [path for path in drawn if not (ROOT / "keybrake" / path).exists()]
