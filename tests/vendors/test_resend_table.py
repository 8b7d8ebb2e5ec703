"""Is every call of the resend SDK in the table of endpoints?"""

import ast
import re
from pathlib import Path

import resend

from keybrake.vendors.resend.vendor import Resend

SDK = Path(resend.__file__).parent
# Built by a function of its own, or from one of three bases that stand next to it.
BUILT = {"inbox_path"}


def _text(node):
    """Return a path as the SDK's source writes it, with {} for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            v.value if isinstance(v, ast.Constant) else _filled_in(v.value) for v in node.values
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.Call):
        return "/inboxes/{}" if getattr(node.func, "id", "") in BUILT else _text(node.args[0])
    return ""


def _filled_in(node):
    return "/inboxes/{}" if isinstance(node, ast.Call) and node.func.id in BUILT else "{}"


def _calls():
    """Yield method and path of every request that the SDK's source makes."""
    for file in SDK.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            verbs = [
                word.value.value
                for call in ast.walk(function)
                if isinstance(call, ast.Call)
                for word in call.keywords
                if word.arg == "verb" and isinstance(word.value, ast.Constant)
            ]
            paths = {
                text
                for node in ast.walk(function)
                if isinstance(node, ast.JoinedStr | ast.Constant | ast.Call)
                and isinstance(text := _safe(node), str)
                and re.fullmatch(r"(/[a-z{}-]+)+", text)
            }
            for verb in verbs:
                yield from ((verb.upper(), path) for path in _whole(paths))


def _safe(node):
    try:
        return _text(node)
    except (AttributeError, IndexError, TypeError):
        return ""


def _whole(paths):
    """Leave out what is only the beginning or the end of another path."""
    return {
        path
        for path in paths
        if not any(
            other != path and (other.startswith(path) or other.endswith(path)) for other in paths
        )
    } or paths


def test_every_call_of_the_sdk_has_a_row():
    """No method of the SDK makes a call that the table does not know."""
    table = Resend()._table
    found = set(_calls())
    unknown = sorted(
        f"{method} {path}"
        for method, path in found
        if table.find(method, path.replace("{}", "x"))[0] is None
    )

    assert len(found) > 100
    assert unknown == []
