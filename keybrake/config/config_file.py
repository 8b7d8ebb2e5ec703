"""Find and read ``keybrake.toml``, or get its text from the ``keybrake exec`` above this process."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keybrake.config import parent_process
from keybrake.errors import PolicyError
from keybrake.model.shown import shown

FILE_NAME = "keybrake.toml"
_MOST_CHARACTERS = 1_000_000


class Written(NamedTuple):
    """The text of the config file, and its path; None: there is no config file."""

    file: Path | None
    text: str


class NobodyInFront(PolicyError):
    """The ``keybrake exec`` that started this process has ended, so its configuration is unknown."""


def find_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """
    Return the config file in force: ``KEYBRAKE_CONFIG``, else the nearest one in ``folders()``.

    In a process that ``keybrake exec`` started, it is the file that ``keybrake exec`` uses.

    Raises:
        PolicyError: ``KEYBRAKE_CONFIG`` names no file, or another user could have written the
            file that was found above the working directory.
    """
    return sent.file if (sent := _sent_by_parent(environ)) is not None else _found(environ)


def written(environ: Mapping[str, str] = os.environ) -> Written:
    """
    Return the config file in force and its text.

    In a process that ``keybrake exec`` started, it is the text that ``keybrake exec`` read when it
    started. A later change of the file or of the working directory has no effect, because it may
    come from the agent.

    Raises:
        PolicyError: The file cannot be read.
    """
    if (sent := _sent_by_parent(environ)) is not None:
        return sent
    file = _found(environ)
    if file is None:
        return Written(None, "")
    try:
        # Decode bytes: text mode would convert a lone CR to a line end, which TOML forbids.
        text = file.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        msg = f"{file}: cannot be read: {error}"
        raise PolicyError(msg) from None
    if len(text) > _MOST_CHARACTERS:
        msg = f"{file}: has {len(text):,} characters; {_MOST_CHARACTERS:,} are the most"
        raise PolicyError(msg)
    return Written(file, text)


def _found(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("KEYBRAKE_CONFIG")
    if named:
        if not Path(named).is_file():
            msg = f"KEYBRAKE_CONFIG={shown(named)} is no file; correct the path or unset it"
            raise PolicyError(msg)
        return Path(named)
    for folder in folders():
        file = folder / FILE_NAME
        if file.is_file():
            _refuse_file_of_others(file)
            return file
    return None


def folders() -> tuple[Path, ...]:
    """
    Return the folders in which a config file is searched, the nearest first.

    They go from the working directory up to the root of its repository (the folder with ``.git``)
    or to the home folder, whichever comes first. Outside of both, only the working directory is
    searched: the folders above it may belong to another user.
    """
    try:
        here = Path.cwd()
    except OSError:
        return (Path(),)  # the working directory was deleted
    home = _home()
    above: list[Path] = []
    for folder in (here, *here.parents):
        above.append(folder)
        if folder == home or os.path.lexists(folder / ".git"):
            # A relative path for the working directory, so that error texts show a short file name.
            return (Path(), *above[1:])
    return (Path(),)


def _home() -> Path | None:
    try:
        return Path(os.path.realpath(Path.home()))
    except RuntimeError:
        return None  # this user has no home folder


def _refuse_file_of_others(file: Path) -> None:
    """
    Raise ``PolicyError`` if another user could have written a config file in a parent folder.

    A config file can raise caps, and can name a command that keybrake runs. A file in the working
    directory itself is accepted: the user chose that folder.
    """
    if file.parent == Path() or not hasattr(os, "geteuid"):
        return
    for found in (file.lstat(), file.stat()):
        is_link = stat.S_ISLNK(found.st_mode)  # the mode of a link has no meaning
        if found.st_uid not in (os.geteuid(), 0):
            why = "belongs to another user"
        elif found.st_mode & stat.S_IWOTH and not is_link:
            why = "may be written by every user"
        else:
            continue
        msg = (
            f"{file}: {why}, so it is not taken from a folder above the working directory; correct "
            f"its owner and rights, or name it by KEYBRAKE_CONFIG"
        )
        raise PolicyError(msg)


def _sent_by_parent(environ: Mapping[str, str]) -> Written | None:
    """Return the configuration from ``keybrake exec``; None: it did not start this process."""
    # Another *environ* describes another process, so the answer of our parent does not apply.
    if parent_process.address is None or environ is not os.environ:
        return None
    try:
        answer = parent_process.ask(parent_process.address, {"what": "configuration"})
        file, text = str(answer["file"]), str(answer["text"])
    except (OSError, ValueError, KeyError) as error:
        why = getattr(error, "strerror", None) or "it does not answer"
        msg = (
            f"the keybrake exec that started this process no longer sends its configuration: {why}"
        )
        raise NobodyInFront(msg) from None
    return Written(Path(file) if file else None, text)
