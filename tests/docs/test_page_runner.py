"""Do untrue pages fail: what the runner of the pages in the root conftest.py catches."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from sybil.example import SybilFailure

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runner():
    """Load the root conftest.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("keybrake_pages", ROOT / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read(runner, tmp_path):
    """Run a page that consists of a text."""

    def run(text):
        page = tmp_path / "page.md"
        page.write_text(text, "utf-8")
        for example in runner._Reader().parse(page).examples():
            example.evaluate()

    return run


PRINTS_ONE = "```python\nprint(1)\n```\n\n"


def test_what_was_printed_is_what_is_shown(read):
    """A page that shows what its blocks print passes, also where … stands for something."""
    read(PRINTS_ONE + "```text\n1\n```\n\n```python\nprint('abc')\n```\n\n```text\na…c\n```\n")


@pytest.mark.parametrize("shown", ["2", "", "1\n2"])
def test_another_output_fails(read, shown):
    """A page that shows what was not printed fails."""
    with pytest.raises(SybilFailure):
        read(f"{PRINTS_ONE}```text\n{shown}\n```\n")


def test_an_output_of_nothing_fails(read):
    """A page cannot show output that no block made."""
    with pytest.raises(SybilFailure):
        read("```text\n1\n```\n")


def test_output_is_compared_once(read):
    """What one text block has shown is not there for the next."""
    with pytest.raises(SybilFailure):
        read(PRINTS_ONE + "```text\n1\n```\n\n```text\n1\n```\n")


def test_a_block_that_raises_fails(read):
    """A page whose code raises fails."""
    with pytest.raises(ZeroDivisionError):
        read("```python\n1 / 0\n```\n")


def test_hidden_blocks_are_run(read):
    """A block in a comment is run like a visible one."""
    with pytest.raises(ZeroDivisionError):
        read("% invisible-code-block: python\n% 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        read("<!-- invisible-code-block: python\n1 / 0\n-->\n")


@pytest.mark.parametrize("line", ["$ exit 1", "$ echo one\ntwo", "$ keybrake no-such-command"])
def test_a_command_that_does_something_else_fails(read, line):
    """A page whose command fails, or prints something else than shown, fails."""
    with pytest.raises(SybilFailure):
        read(f"```console\n{line}\n```\n")


def test_commands_with_their_output_pass(read):
    """Commands are run one by one, each with its own output below it."""
    read("```console\n$ echo one\none\n$ echo two \\\n    three\ntwo three\n```\n")


def test_a_config_that_keybrake_refuses_fails(read):
    """A keybrake.toml on a page is one that keybrake reads."""
    from keybrake import PolicyError

    with pytest.raises(PolicyError):
        read("```toml\n[money]\nmargin = 1\n```\n")
    with pytest.raises(PolicyError):
        read('```toml\n[policies.a]\ncap = "many"\n```\n')


def test_every_page_is_one_test(runner, request):
    """Each page of the documentation is collected, as one test."""
    pages = [ROOT / "README.md", ROOT / "docs" / "tutorial.md"]
    files = [runner.pytest_collect_file(page, request.session) for page in pages]

    assert [[item.name for item in file.collect()] for file in files] == [["page"], ["page"]]
    assert runner.pytest_collect_file(ROOT / "CHANGELOG.md", request.session) is None
    assert runner.pytest_collect_file(ROOT / "docs" / "_build" / "x.md", request.session) is None
