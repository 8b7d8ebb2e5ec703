"""The protocol of credential sources, and the function that loads one by its scheme."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import ClassVar, Protocol

from keybrake.config.references import Reference, schemes
from keybrake.model.waiting import Mutex

# True while a source is read. Its HTTP traffic is not a vendor call, and recorders must not see it.
asking: ContextVar[bool] = ContextVar("keybrake.credentials.asking", default=False)


class _DropDebug(logging.Filter):
    """Drops debug records of a client library while a source is read: they contain the secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not asking.get()


_drop_debug = _DropDebug()


def hush(package: str) -> None:
    """Drop the debug records of *package* while a source is read."""
    for name in list(logging.root.manager.loggerDict):
        if name == package or name.startswith(f"{package}."):
            # A filter on the parent does not see records of child loggers, so add it to each logger.
            logging.getLogger(name).addFilter(_drop_debug)


class SourceFailed(Exception):
    """A source did not return the secret. The text says why, and contains no part of the secret."""


class Source(Protocol):
    """
    One kind of secret store. Created on first use and then kept; several threads may call it.

    Attributes:
        SECRETS: Environment variables with the login of the store. ``keybrake exec`` removes them for
            the agent, which could otherwise fetch the secret without keybrake.
    """

    # Empty if the store has none, or if the agent may need them for its own work (AWS, Google Cloud).
    SECRETS: ClassVar[tuple[str, ...]]

    def fetch(self, reference: Reference) -> str:
        """
        Return the secret at *reference*.

        Raises:
            SourceFailed: It does not exist, may not be read, or the store does not answer.
        """


_making = Mutex()
_sources: dict[str, Source] = {}


def source(scheme: str) -> Source:
    """
    Return the source for a scheme; every thread gets the same one.

    Raises:
        SourceFailed: The extra that the source needs is not installed.
    """
    if scheme not in _sources:
        with _making:
            if scheme not in _sources:
                _sources[scheme] = _made(scheme)
    return _sources[scheme]


def _made(scheme: str) -> Source:
    point = schemes()[scheme]
    try:
        made: Source = point.load()()
    except ImportError as error:
        package = point.dist.name if point.dist else "its package"
        extra = f"{package}[{scheme}]" if package == "keybrake" else package
        msg = f"needs {error.name or 'a package'}; pip install '{extra}'"
        raise SourceFailed(msg) from error
    return made
