"""Do the pages hold together: they build without a warning, and what they point to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests._each import each

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / ".github").rglob("*.md")),
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts),
]
SPANS = re.MULTILINE | re.DOTALL
OTHER_WORDS = re.compile(r"\b(?:budgets?|whitelist\w*|blocked|quotas?|denied)\b", re.IGNORECASE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def test_the_documentation_builds_without_a_warning(tmp_path):
    """Sphinx builds the documentation with warnings as errors, and the API is in it."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (built.returncode, built.stderr) == (0, "")
    api = (tmp_path / "html" / "reference" / "api.html").read_text("utf-8")
    assert 'id="keybrake.issue_vault_key"' in api
    tutorial = (tmp_path / "html" / "tutorial.html").read_text("utf-8")
    assert "runaway-agent" in re.sub(r"<[^>]*>", "", tutorial)


@each("page", PAGES, ids=NAMES)
def test_links_between_files_lead_somewhere(page):
    """A relative link on a page leads to a file that is there."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:|#", link)]
    lost = [link for link in targets if not (page.parent / link.partition("#")[0]).exists()]

    assert lost == []


@each("page", PAGES, ids=NAMES)
def test_the_words_are_those_of_the_glossary(page):
    """No page uses another word for what the glossary has a word for."""
    prose = re.sub(r"```.*?```|`[^`]*`|<!--.*?-->", "", page.read_text("utf-8"), flags=SPANS)
    wrong = OTHER_WORDS.findall(prose)

    # The house rules say which words are not ours, too.
    assert not wrong or page.name == "CONTRIBUTING.md"


def test_every_page_is_in_the_table_of_contents():
    """A reader finds every page from the first one."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = {
        str(page.relative_to(ROOT / "docs").with_suffix(""))
        for page in PAGES
        if ROOT / "docs" in page.parents
    }
    listed = set(re.findall(r"^((?:[\w-]+/)?[\w-]+)$", index, re.MULTILINE))

    assert pages - {"index"} == listed & pages


def test_the_readme_has_both_set_up_commands():
    """The two commands that set keybrake up stand in the README as they are typed."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()

    assert "pip install '.[vendors]' && keybrake demo" in lines
    assert "pip install -e '.[dev]' && pytest" in lines


def test_every_test_named_as_a_proof_is_there():
    """The tests that the page of promises names exist."""
    text = (ROOT / "docs" / "concepts" / "promises.md").read_text("utf-8")
    named = set(re.findall(r"`(tests/[\w./]+)`", text))

    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
