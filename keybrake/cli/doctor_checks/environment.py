"""Check for ``keybrake doctor``: Python, SQLite, configuration, SDKs and hooks."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from typing import NamedTuple

from keybrake.cli.ui import config_mistakes
from keybrake.config import config_file, settings
from keybrake.errors import KeybrakeError, PolicyError, UnsupportedSDK
from keybrake.ledger.stores.sqlite import ledger_files
from keybrake.model.shown import without_secrets
from keybrake.runs import arguments

_OLDEST_PYTHON = (3, 11)
_VENDORS = ("stripe", "twilio", "resend")
_READ_ENVIRONMENT = ("KEYBRAKE_LEDGER", "KEYBRAKE_CONFIG", "KEYBRAKE_VAULT_KEY")


class Finding(NamedTuple):
    """The result of one check. *verdict*: ``ok``, ``note`` or ``wrong``."""

    check: str
    verdict: str
    detail: str


def machine() -> Iterator[Finding]:
    """Check the versions of Python and of its SQLite."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= _OLDEST_PYTHON
    yield Finding("python", "ok" if fits else "wrong", f"{version} ({sys.executable})")
    fault = ledger_files.sqlite_fault()
    verdict = "ok" if fault is None else "note"
    if sqlite3.sqlite_version_info < ledger_files.OLDEST_SQLITE:
        verdict = "wrong"
    yield Finding("sqlite", verdict, f"{sqlite3.sqlite_version}{f' {fault}' if fault else ''}")


def config_fault() -> str | None:
    """Return the first fault in the configuration and its policies; None if there is none."""
    try:
        config = settings.current()
        for name in config.policies:
            arguments.policy_from(name, {})
    except PolicyError as error:
        return str(error)
    return None


def config(fault: str | None) -> Iterator[Finding]:
    """Report the mistakes in the configuration, or the file in force."""
    if fault is not None:
        for detail in _config_mistakes() or [without_secrets(fault)]:
            yield Finding("config", "wrong", detail)
        return
    config = settings.current()
    policies = f", policies: {', '.join(sorted(config.policies))}" if config.policies else ""
    named = [name for name in _READ_ENVIRONMENT if os.environ.get(name)]
    environment = f"; set in the environment: {', '.join(named)}" if named else ""
    file = config_file.find_file()
    source = config.source if file is None else file.absolute()
    yield Finding("config", "ok", f"{source}{policies}{environment}")


def _config_mistakes() -> list[str]:
    """Return every mistake in the file, with its line; none if the fault is not in the file."""
    try:
        file = config_file.find_file()
        found = (
            [] if file is None else config_mistakes.mistakes(config_mistakes.read(file), str(file))
        )
    except (PolicyError, OSError):
        return []
    return [f"{mistake.file}:{mistake.line}: {mistake.message}" for mistake in found]


def sdks() -> Iterator[Finding]:
    """Check which vendors' SDKs are installed, and whether keybrake can guard their versions."""
    from keybrake import sdk

    found = [Finding(*_sdk(name, sdk.SUPPORTED.get(name))) for name in _VENDORS]
    installed = [finding for finding in found if finding.detail]
    yield from installed
    if not installed:
        detail = "none is installed: pip install 'keybrake[vendors]'"
        yield Finding("sdk", "note", detail)


def _sdk(name: str, supported: tuple[int, int] | None) -> tuple[str, str, str]:
    from importlib import metadata

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name, "ok", ""
    if supported is None:
        return name, "note", f"{version} is installed, but this keybrake does not guard it"
    low, below = supported
    wanted = f">={low},<{below}"
    if low <= _numbers(version)[0] < below:
        return name, "ok", f"{version} is supported ({wanted})"
    return name, "wrong", f"{version} cannot be guarded; install {name}{wanted}"


def _numbers(version: str) -> tuple[int, int]:
    major, minor, *_ = [*map(int, re.findall(r"[0-9]+", version)), 0, 0]
    return major, minor


def hooks() -> Iterator[Finding]:
    """Install the hooks in the installed SDKs, in this process only, and check their status."""
    from keybrake import sdk

    for name in sdk.SUPPORTED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 -- an SDK that cannot be imported is a finding
            yield Finding("hooks", "wrong", f"{name} cannot be imported: {error!r}")
    try:
        sdk.install()
    except (UnsupportedSDK, KeybrakeError) as error:
        yield Finding("hooks", "wrong", str(error))
        return
    for place, state in sdk.status():
        if state == "waiting" and place.partition(".")[0] in sdk.SUPPORTED:
            _import_home_of(place)
    status = dict(sdk.status())
    for place, state in status.items():
        if state == "missing":
            yield Finding("hooks", "wrong", f"{place} is not hooked: its calls would go unguarded")
    placed = [place for place, state in status.items() if state == "in place"]
    yield Finding("hooks", "ok", f"in place: {', '.join(placed) or 'none'}")


def _import_home_of(place: str) -> None:
    """Import the module of *place*, because newer SDKs import their modules only on first use."""
    parts = place.split(".")
    for end in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ImportError):
            importlib.import_module(".".join(parts[:end]))
            return
