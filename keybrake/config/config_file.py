"""Which ``keybrake.toml`` is in force, and what it says: one that is found, or the word of the process in front."""

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
    """What the operator wrote down: the text, and the file that it stood in; None: there is none."""

    file: Path | None
    text: str


class NobodyInFront(PolicyError):
    """The ``keybrake exec`` that started this process has ended: nobody says what it was told."""


def find_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """
    Return the config file in force: ``KEYBRAKE_CONFIG``, else the nearest one in ``folders()``.

    In a process that ``keybrake exec`` has started it is the one that was in force there.

    Raises:
        PolicyError: ``KEYBRAKE_CONFIG`` names no file, or another user could have written the
            file that was found above the working directory.
    """
    return told.file if (told := _told(environ)) is not None else _found(environ)


def written(environ: Mapping[str, str] = os.environ) -> Written:
    """
    Return what the config file in force says.

    In a process that ``keybrake exec`` has started that is what the file said when that began,
    wherever the process has gone since and whatever the file says now: an agent that may write
    files has no word in it.

    Raises:
        PolicyError: The file cannot be read.
    """
    if (told := _told(environ)) is not None:
        return told
    file = _found(environ)
    if file is None:
        return Written(None, "")
    try:
        # To the letter: text mode would make line ends of what TOML takes for none.
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
    Return the folders in which a config file is looked for, the nearest first.

    They lead from the working directory up to the root of its repository, the folder with
    ``.git``, or to the home folder, whichever comes first. A working directory that lies in
    neither is the only one: the folders above it may belong to anybody.
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
            # A relative name for the first: so that error texts name the file as the user does.
            return (Path(), *above[1:])
    return (Path(),)


def _home() -> Path | None:
    try:
        return Path(os.path.realpath(Path.home()))
    except RuntimeError:
        return None  # this user has none


def _refuse_file_of_others(file: Path) -> None:
    """
    Refuse a config file above the working directory that another user could have written.

    It can raise caps and name a command that is run for a credential. The file in the working
    directory is taken as it is: the user went to that folder.
    """
    if file.parent == Path() or not hasattr(os, "geteuid"):
        return
    for found in (file.lstat(), file.stat()):
        is_link = stat.S_ISLNK(found.st_mode)  # the rights of a link say nothing
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


def _told(environ: Mapping[str, str]) -> Written | None:
    """Return what the process in front says; None: there is none, or it is not about this process."""
    if parent_process.address is None or environ is not os.environ:
        return None
    try:
        answer = parent_process.ask(parent_process.address, {"what": "configuration"})
        file, text = str(answer["file"]), str(answer["text"])
    except (OSError, ValueError, KeyError) as error:
        why = getattr(error, "strerror", None) or "it does not answer"
        msg = f"the keybrake exec that started this process says no more what is configured: {why}"
        raise NobodyInFront(msg) from None
    return Written(Path(file) if file else None, text)
