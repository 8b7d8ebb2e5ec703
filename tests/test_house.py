"""Is the house in order: small files, short functions, first lines that say what for?"""

import ast
import re
import sys
from pathlib import Path

import keybrake
from tests._each import each

HOUSE = Path(keybrake.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(HOUSE.rglob("*.py"))
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))


def named(path: Path) -> str:
    """Return a module's path within the repository."""
    return str(path.relative_to(TESTS.parent))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@each("path", MODULES, ids=named)
def test_a_file_answers_one_question(path):
    """A file of the package has at most 500 lines, and its first line is a docstring."""
    text = path.read_text("utf-8")
    first = ast.get_docstring(ast.parse(text))

    assert len(text.splitlines()) <= 500
    assert text.startswith('"""')
    assert first


@each("path", MODULES, ids=named)
def test_a_function_fits_on_a_screen(path):
    """The code of no function is longer than 60 lines."""
    long = {f.name: lines_of_code(f) for f in functions(path) if lines_of_code(f) > 60}

    assert not long


@each("path", MODULES, ids=named)
def test_nothing_is_left_to_be_done(path):
    """No placeholder, and no import that only type checkers see."""
    text = path.read_text("utf-8")

    assert not re.findall(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|TYPE_CHECKING)\b", text)


def test_modules_import_without_cycles():
    """No module of the package needs, at import, one that needs it."""
    needs = {}
    for path in MODULES:
        name = ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts)
        needs[name.removesuffix(".__init__")] = imports_at_the_top(path)
    for name, wanted in needs.items():
        needs[name] = {
            found for want in wanted if (found := nearest(want, needs)) not in (None, name)
        }
    clean: set[str] = set()
    while ready := {name for name in needs if name not in clean and needs[name] <= clean}:
        clean |= ready

    assert set(needs) - clean == set()


def imports_at_the_top(path: Path) -> set[str]:
    """Return the dotted names that a file imports when it is imported."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("keybrake")}


def nearest(name: str, known: dict[str, set[str]]) -> str | None:
    """Return the module that an imported name stands in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


@each("path", TEST_MODULES, ids=named)
def test_every_test_states_its_promise(path):
    """The docstring of a test is one sentence on one line."""
    tests = [f for f in functions(path) if f.name.startswith("test_")]
    promises = {f.name: ast.get_docstring(f) or "" for f in tests}

    assert [n for n, said in promises.items() if "\n" in said or not said.endswith(".")] == []


def test_the_package_is_made_for_this_python():
    """The tests run on a Python that the package promises."""
    assert sys.version_info >= (3, 11)
