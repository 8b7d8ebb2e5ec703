"""What a place that keeps secrets has to be able to do, and which places there are."""

from __future__ import annotations

import functools
import logging
from contextvars import ContextVar
from typing import ClassVar, Protocol

from keybrake.config.references import Reference, schemes

# Whether a place is being asked: what goes over the wire meanwhile is no vendor's, and for no recorder.
asking: ContextVar[bool] = ContextVar("keybrake.credentials.asking", default=False)


class _Unheard(logging.Filter):
    """Keeps back what a client says in detail while a place is asked: the answer stands in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not asking.get()


_unheard = _Unheard()


def hush(package: str) -> None:
    """Keep the debug log of a client's package free of what it is told while a place is asked."""
    for name in list(logging.root.manager.loggerDict):
        if name == package or name.startswith(f"{package}."):
            # A logger's filters are not asked about what the loggers below it say.
            logging.getLogger(name).addFilter(_unheard)


class SourceFailed(Exception):
    """A source did not give the secret. The text says why, and carries nothing of the secret."""


class Source(Protocol):
    """
    One kind of place; made once, when it is first asked. It may be asked by several threads.

    Attributes:
        SECRETS: The environment variables with what the place itself asks for: whoever has one of them
            can fetch the secret without keybrake.
    """

    # Empty where an agent may need the same variables for its own work (AWS, Google Cloud), and where
    # there are none.
    SECRETS: ClassVar[tuple[str, ...]]

    def fetch(self, reference: Reference) -> str:
        """
        Return what the reference leads to.

        Raises:
            SourceFailed: It is not there, may not be read, or the place does not answer.
        """


@functools.cache
def source(scheme: str) -> Source:
    """
    Return the source for a scheme.

    Raises:
        SourceFailed: It cannot be loaded: the extra that it needs is not installed.
    """
    point = schemes()[scheme]
    try:
        made: Source = point.load()()
    except ImportError as error:
        package = point.dist.name if point.dist else "its package"
        extra = f"{package}[{scheme}]" if package == "keybrake" else package
        msg = f"needs {error.name or 'a package'}; pip install '{extra}'"
        raise SourceFailed(msg) from error
    return made
