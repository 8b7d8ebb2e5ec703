"""``status()``: is every SDK hooked in this process, and what has gone through it and past it?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keybrake.guard import call_counts, unguarded_connections


@dataclass(frozen=True, slots=True)
class SDKStatus:
    """
    How the guard of one vendor's SDK stands in this process.

    Attributes:
        vendor: ``stripe``, ``twilio`` or ``resend``.
        version: Of the SDK that is installed here; None: none is.
        hooks: ``in place``; ``waiting`` for the SDK to be imported; ``missing``, so that calls go out
            unguarded; ``unsupported``, a version that is refused; ``off``: ``install()`` was not
            called; ``not installed``.
        guarded: Calls that the guard decided on, the refused ones too.
        past_the_guard: Connections to the vendor that no guarded call made, and calls of the SDK
            that were let through: outside of every run, or inside ``unguarded()``.
    """

    vendor: str
    version: str | None
    hooks: str
    guarded: int
    past_the_guard: int


def status() -> tuple[SDKStatus, ...]:
    """Return how the guard of each vendor's SDK stands in this process; changes nothing."""
    from keybrake import sdk

    unguarded_connections.flush()
    places = sdk.status() if sdk.is_on() else None
    return tuple(_status(vendor, places) for vendor in sdk.SUPPORTED)


def _status(vendor: str, places: Iterable[tuple[str, str]] | None) -> SDKStatus:
    version = version_of(vendor)
    return SDKStatus(vendor, version, _hooks(vendor, version, places), *call_counts.counted(vendor))


def version_of(vendor: str) -> str | None:
    """Return the version of a vendor's SDK that is installed; None: none is."""
    from importlib import metadata

    try:
        return metadata.version(vendor)
    except metadata.PackageNotFoundError:
        return None


def _hooks(vendor: str, version: str | None, places: Iterable[tuple[str, str]] | None) -> str:
    from keybrake import sdk

    if version is None:
        return "not installed"
    if not sdk.is_supported(vendor, version):
        return "unsupported"
    if places is None:
        return "off"
    # An SDK loads some of its modules late; their hooks wait, and are no fault.
    states = {state for place, state in places if place.partition(".")[0] == vendor}
    for worst in ("missing", "in place"):
        if worst in states:
            return worst
    return "waiting"
