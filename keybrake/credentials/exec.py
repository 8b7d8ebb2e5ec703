"""``exec://op?args=read%20op://agents/stripe/key``: the output of a command."""

from __future__ import annotations

import shlex
import subprocess
from typing import ClassVar

from keybrake.config.references import Reference
from keybrake.credentials.file import text_of
from keybrake.credentials.source import SourceFailed

_TIMEOUT_S = 10.0


class ExecSource:
    """See ``Source``. Runs the command without a shell, and drops one final line end."""

    SECRETS: ClassVar[tuple[str, ...]] = ()

    def fetch(self, reference: Reference) -> str:
        """See ``Source.fetch``."""
        try:
            words = shlex.split(reference.param("args") or "")
        except ValueError as error:
            msg = f"has args that cannot be read: {error}"
            raise SourceFailed(msg) from error
        try:
            # The command inherits stderr, so that a person can read its prompts and errors.
            ran = subprocess.run(  # noqa: S603 -- the operator chose the command
                [reference.path, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            msg = f"did not end within {_TIMEOUT_S:g} s"
            raise SourceFailed(msg) from None
        except OSError as error:
            msg = f"cannot be run: {error.strerror}"
            raise SourceFailed(msg) from error
        if ran.returncode != 0:
            msg = f"ended with exit code {ran.returncode}"
            raise SourceFailed(msg)
        return text_of(ran.stdout, reference)
