"""Are the pages true: README.md and docs/**/*.md are run, block by block, as tests."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser

ROOT = Path(__file__).parent

# A `console` block is run; what must not be run (installing, following a log) is a `sh` block.
_CONSOLE_TIMEOUT_S = 60


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collect README.md and every page of the documentation."""
    docs = ROOT / "docs"
    is_page = docs in file_path.parents and docs / "_build" not in file_path.parents
    if file_path.suffix == ".md" and (is_page or file_path == ROOT / "README.md"):
        return PageFile.from_parent(parent, path=file_path)
    return None


class PageFile(pytest.File):
    """A page. It is one test, because its blocks build on each other."""

    def collect(self) -> Iterator[pytest.Item]:
        """Return the page's only test, if it has a block to run."""
        if list(_Reader().parse(self.path)):
            yield PageItem.from_parent(self, name="page")


class PageItem(pytest.Item):
    """Reads a page as its reader would: from top to bottom, in one Python and one terminal."""

    def runtest(self) -> None:
        """Run every block; what a ``text`` block shows has to be what was printed before it."""
        folder = self.config._tmp_path_factory.mktemp("page")  # noqa: SLF001 -- tmp_path_factory is a fixture, and an item has none
        # In a context of its own, so that a page that fails inside a run leaves none around.
        copy_context().run(self._read, folder)

    def _read(self, folder: Path) -> None:
        """Run the page's blocks in order, in *folder*."""
        with _world(folder):
            document = _Reader().parse(self.path)
            document.namespace["PAGE"] = str(self.path)
            for example in document.examples():
                self._line = example.line
                example.evaluate()

    _line = 0

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say which block failed, and how."""
        shown = excinfo.getrepr(style=style or "short", tbfilter=True)
        return f"{self.path}:{self._line}: this block fails\n{shown}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """Name the page."""
        return self.path, 0, str(self.path.relative_to(ROOT))


@contextlib.contextmanager
def _world(folder: Path) -> Iterator[None]:
    """Give a page a fake Stripe, a ledger and a working directory of its own."""
    import stripe

    import keybrake
    from keybrake.config import settings
    from keybrake.guard import caller
    from keybrake.testing import FakeStripe

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), FakeStripe() as fake:
        # stripe hands its body to httpx in a way that httpx no longer likes
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        patch.chdir(folder)
        # readers' programs in this very environment, and nothing of the developer's own set-up
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("KEYBRAKE_LEDGER", f"sqlite:///{folder / 'ledger.db'}")
        patch.setenv("FAKE_STRIPE_URL", fake.url)
        for name in ("KEYBRAKE_CONFIG", "KEYBRAKE_VAULT_KEY", "STRIPE_API_KEY"):
            patch.delenv(name, raising=False)
        patch.setattr(stripe, "api_base", fake.url)
        patch.setattr(stripe, "api_key", "sk_test_docs")
        # what a page changes is put back with the rest
        patch.setattr(stripe, "max_network_retries", stripe.max_network_retries)
        settings.set_current(None)
        try:
            yield
        finally:
            while (left_open := caller.open_runs.newest_ledger()) is not None:
                caller.open_runs.remove(left_open)
            keybrake.uninstall()
            settings.set_current(None)


class _Reader:
    """Runs the blocks of one page and remembers what was printed last."""

    def __init__(self) -> None:
        self._printed = ""
        self._python = PythonEvaluator()

    def parse(self, path: Path) -> Document:
        """Return the page with its runnable blocks."""
        parsers = [
            CodeBlockParser("python", self._run_python),
            CodeBlockParser("console", self._run_console),
            CodeBlockParser("text", self._compare),
            CodeBlockParser("toml", self._read_config),
            CodeBlockParser("sql", self._run_sql),
        ]
        return Document.parse(str(path), *parsers)

    def _run_python(self, example: Example) -> None:
        """Run a block and keep what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            self._python(example)
        self._printed += printed.getvalue()

    def _compare(self, example: Example) -> str | None:
        """Compare a ``text`` block with what was printed since the last one."""
        printed, self._printed = self._printed, ""
        return _difference(_real(example, example.parsed), printed)

    def _run_console(self, example: Example) -> str | None:
        """Run each command; compare what is shown below it with what it printed."""
        for command, shown in _commands(example.parsed):
            status, printed = _shell(_real(example, command))
            if status != 0:
                return f"$ {command}\nexit status {status}\n{printed}"
            if shown and (wrong := _difference(_real(example, shown), printed)):
                return f"$ {command}\n{wrong}"
        return None

    def _read_config(self, example: Example) -> None:
        """Have keybrake read a ``keybrake.toml`` as it reads a user's."""
        from keybrake import Policy
        from keybrake.config import settings

        given = tomllib.loads(example.parsed, parse_float=Decimal)
        config = settings.parse(
            given, source="keybrake.toml", default=settings.Config("sqlite:///x")
        )
        for name, table in config.policies.items():
            Policy.from_mapping(table, where=name)

    def _run_sql(self, example: Example) -> None:
        """Ask the page's ledger, and keep the rows as sqlite3 prints them."""
        self._printed += _sqlite(
            os.environ["KEYBRAKE_LEDGER"].removeprefix("sqlite:///"), example.parsed
        )


def _real(example: Example, text: str) -> str:
    """Put the ids of this run in the place of those on the page: ``shown = {"run_12…": run.id}``."""
    for shown, real in example.namespace.get("shown", {}).items():
        text = text.replace(shown, str(real))
    return text


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each ``$ command`` of a console block with the output shown under it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = f"{command[:-1]}{more.strip()}"
        yield command, shown.strip("\n")


def _shell(command: str) -> tuple[int, str]:
    """Return exit status and output of a command in the reader's shell."""
    words = shlex.split(command)
    if words[0] == "sqlite3":  # not every machine has the program; this answers as it does
        return 0, _sqlite(*words[1:])
    done = subprocess.run(  # noqa: S603 -- what stands on our own pages
        ["bash", "-c", command],  # noqa: S607 -- the reader's own shell
        capture_output=True,
        text=True,
        timeout=_CONSOLE_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


def _sqlite(file: str, statement: str) -> str:
    """Return what the program sqlite3 prints for a statement."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute(statement).fetchall()
    return "".join("|".join("" if v is None else str(v) for v in row) + "\n" for row in rows)


def _difference(shown: str, printed: str) -> str | None:
    """Return how *printed* is not what the page shows; ``…`` there stands for anything."""
    want, got = _trimmed(shown), _trimmed(printed)
    pattern = ".*?".join(re.escape(part) for part in want.split("…"))
    if re.fullmatch(pattern, got, flags=re.DOTALL):
        return None
    lines = difflib.unified_diff(
        want.splitlines(), got.splitlines(), "on the page", "printed", lineterm=""
    )
    return "\n".join(lines)


def _trimmed(text: str) -> str:
    """Return *text* without the white space at its ends and at those of its lines."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
