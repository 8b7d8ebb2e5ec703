"""Decode the parameters of a request: query, form, multipart or JSON."""

import email.message
import email.parser
import email.policy
import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

from keybrake.testing.server import Request

# The caller chooses the names in metadata, so {"0": "x"} there is not a list.
_FREE_FORM = "metadata"


def decode(request: Request) -> dict[str, Any]:
    """
    Return the parameters of the query and of the body.

    Raises:
        ValueError: The body does not match its content type.

    """
    pairs = urllib.parse.parse_qsl(request.query, keep_blank_values=True)
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        return {**nest(pairs), **_multipart(content_type, request.body)}
    if content_type.startswith("application/json"):
        body = json.loads(request.body or b"{}")
        if not isinstance(body, dict):
            msg = "the body is not a JSON object"
            raise ValueError(msg)
        return {**nest(pairs), **body}
    text = request.body.decode()
    return nest(pairs + urllib.parse.parse_qsl(text, keep_blank_values=True))


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Turn ``a[b]=1``, ``a[]=1`` and ``a[0]=1`` into dictionaries and lists."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        _insert(tree, key.replace("]", "").split("["), value)
    return {name: _with_lists(name, child) for name, child in tree.items()}


def _insert(tree: dict[str, Any], names: list[str], value: str) -> None:
    *parents, last = names
    for name in parents:
        child = tree.get(name)
        if not isinstance(child, dict):
            child = tree[name] = {}
        tree = child
    tree[last or str(len(tree))] = value


def _with_lists(name: str, node: Any) -> Any:
    if not isinstance(node, dict) or name == _FREE_FORM:
        return node
    children = {key: _with_lists(key, child) for key, child in node.items()}
    if children and all(key.isascii() and key.isdigit() for key in children):
        return [children[key] for key in sorted(children, key=int)]
    return children


def _multipart(content_type: str, body: bytes) -> dict[str, Any]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    pairs: list[tuple[str, str]] = []
    files: dict[str, Any] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", "", header="content-disposition"))
        content = part.get_payload(decode=True)
        data = content if isinstance(content, bytes) else b""
        if part.get_filename() is None:
            pairs.append((name, data.decode()))
        else:
            files[name] = {"filename": part.get_filename(), "size": len(data)}
    return {**nest(pairs), **files}
