"""Which ``keybrake.toml`` is in force, and what it says: one that is found, or the word of the process in front."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keybrake import _in_front
from keybrake._shown import shown
from keybrake.errors import PolicyError

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
    Return the config file in force: ``KEYBRAKE_CONFIG``, else the working directory's.

    In a process that ``keybrake exec`` has started it is the one that was in force there.

    Raises:
        PolicyError: ``KEYBRAKE_CONFIG`` names no file.
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
    here = Path(FILE_NAME)
    return here if here.is_file() else None


def _told(environ: Mapping[str, str]) -> Written | None:
    """Return what the process in front says; None: there is none, or it is not about this process."""
    if _in_front.address is None or environ is not os.environ:
        return None
    try:
        answer = _in_front.ask(_in_front.address, {"what": "configuration"})
        file, text = str(answer["file"]), str(answer["text"])
    except (OSError, ValueError, KeyError) as error:
        why = getattr(error, "strerror", None) or "it does not answer"
        msg = f"the keybrake exec that started this process says no more what is configured: {why}"
        raise NobodyInFront(msg) from None
    return Written(Path(file) if file else None, text)
