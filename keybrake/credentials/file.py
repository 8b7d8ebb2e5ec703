"""``file:///run/secrets/stripe``: a file, such as a secret mounted into a container."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import ClassVar

from keybrake.config.references import Reference
from keybrake.credentials.source import SourceFailed

_MOST_BYTES = 64 * 1024


class FileSource:
    """See ``Source``. Drops one line end at the end of the file."""

    SECRETS: ClassVar[tuple[str, ...]] = ()

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        try:
            content = _read(Path(reference.path).expanduser())
        except OSError as error:
            msg = f"cannot be read: {error.strerror}"
            raise SourceFailed(msg) from error
        if len(content) > _MOST_BYTES:
            msg = f"is larger than {_MOST_BYTES // 1024} KiB"
            raise SourceFailed(msg)
        return text_of(content, reference)


def text_of(content: bytes, reference: Reference) -> str:
    """
    Return the secret in the content of a file or the output of a command.

    Raises:
        SourceFailed: *content* is not UTF-8 text.
        Unreadable: See ``Reference.pick``.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        msg = "is no text in UTF-8"
        raise SourceFailed(msg) from None
    return reference.pick(text.removesuffix("\n").removesuffix("\r"))


def _read(path: Path) -> bytes:
    # O_NONBLOCK: opening a named pipe would block until a writer opens it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            msg = "is no ordinary file"
            raise SourceFailed(msg)
        return file.read(_MOST_BYTES + 1)
