"""Write a file completely or not at all, and never replace another file by accident."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click


def write_whole(path: Path, chunks: Iterable[str], *, force: bool) -> None:
    """
    Write *chunks* to *path*, readable only by the owner; the file appears when it is complete.

    Args:
        path: The new file.
        chunks: Its text, written as UTF-8.
        force: Replace an existing regular file.

    Raises:
        click.ClickException: *path* exists and must not be replaced.
        OSError: The file cannot be written; nothing is left behind.
    """
    _refuse_existing(path, force=force)
    number, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 -- a descriptor
            stream.writelines(chunks)
            stream.flush()
            os.fsync(number)
        if force:
            os.replace(draft, path)  # noqa: PTH105 -- like os.link below
        else:
            # A link, unlike a rename, fails if another process has made the file in the meantime.
            os.link(draft, path)
    except FileExistsError:
        raise _is_there(path) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # noqa: PTH108


def _refuse_existing(path: Path, *, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        msg = f"{path} is no ordinary file and is left as it is"
        raise click.ClickException(msg)
    if not force:
        raise _is_there(path)


def _is_there(path: Path) -> click.ClickException:
    return click.ClickException(
        f"{path} is there already and is left as it is; --force replaces it"
    )
