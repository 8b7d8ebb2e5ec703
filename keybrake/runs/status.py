"""``status()``: whether each SDK is hooked in this process, and how many calls were guarded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keybrake.guard import call_counts, unguarded_connections


@dataclass(frozen=True, slots=True)
class SDKStatus:
    """
    State of the hooks of one vendor's SDK in this process.

    Attributes:
        vendor: ``stripe``, ``twilio`` or ``resend``.
        version: Installed version of the SDK; None: it is not installed.
        hooks: ``in place``; ``waiting``: the SDK is not imported yet; ``missing``: calls go out
            unguarded; ``unsupported``: keybrake refuses this version; ``off``: ``install()`` was not
            called; ``not installed``.
        guarded: Number of calls that the guard decided on, including refused calls.
        past_the_guard: Number of connections to the vendor outside guarded calls, and of SDK calls
            that the guard let through: outside every run, or inside ``unguarded()``.
    """

    vendor: str
    version: str | None
    hooks: str
    guarded: int
    past_the_guard: int


def status() -> tuple[SDKStatus, ...]:
    """Return the state of the hooks of each vendor's SDK in this process, without changing it."""
    from keybrake import sdk

    unguarded_connections.flush()
    places = sdk.status() if sdk.is_on() else None
    return tuple(_status(vendor, places) for vendor in sdk.SUPPORTED)


def _status(vendor: str, places: Iterable[tuple[str, str]] | None) -> SDKStatus:
    version = version_of(vendor)
    return SDKStatus(vendor, version, _hooks(vendor, version, places), *call_counts.counted(vendor))


def version_of(vendor: str) -> str | None:
    """Return the installed version of a vendor's SDK; None: it is not installed."""
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
    # Some hooks may wait, because an SDK imports some of its modules late; that is no fault.
    states = {state for place, state in places if place.partition(".")[0] == vendor}
    for worst in ("missing", "in place"):
        if worst in states:
            return worst
    return "waiting"
