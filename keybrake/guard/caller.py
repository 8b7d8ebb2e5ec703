"""The caller of a vendor call: a vault key in the SDK's slot, the run around it, or the ambient key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from keybrake.config import settings, started_under
from keybrake.errors import CredentialUnavailable, NoActiveRun, PolicyError
from keybrake.guard.surroundings import Around, Later
from keybrake.ledger import Ledger, RunRecord, open_ledger
from keybrake.model import vault_key
from keybrake.policy.policy import Terms


@dataclass(frozen=True, slots=True)
class RunFrame:
    """
    A run is around here.

    Attributes:
        scopes: The run and everything it stands under, by primary key.
        handle: The user's ``Run`` object, for ``current_run()``.
    """

    ledger: Ledger
    pk: int
    uid: str
    label: str
    scopes: tuple[int, ...]
    outer: Frame | None
    handle: Any = None


@dataclass(frozen=True, slots=True)
class ToolFrame:
    """A ``@tool`` function is running here."""

    name: str
    terms: Terms
    outer: Frame | None


@dataclass(frozen=True, slots=True)
class UnguardedFrame:
    """The code runs inside ``unguarded(why)``."""

    why: str
    outer: Frame | None
    handle: object = None


@dataclass(slots=True, eq=False)
class WireFrame:
    """
    A call that the guard admitted is on the wire here: requests of its SDK belong to that call.

    It stands among the frames, so that it follows the call into each thread that a run follows into.
    It does not identify the caller.

    Attributes:
        over: The call has come back; a thread or a task that it started may still have the frame.
        flight: What a door knows of the call while it is on the wire.
    """

    vendor: str
    outer: Frame | None
    over: bool = False
    flight: Any = None


CallerFrame = RunFrame | ToolFrame | UnguardedFrame
Frame = CallerFrame | WireFrame

active: Around[Frame] = Around("keybrake_active")


class Caller(NamedTuple):
    """The scopes that a call is charged to: its run, then its tools, then the runs around them."""

    ledger: Ledger
    pk: int
    uid: str
    label: str
    scopes: tuple[int, ...]
    tool: str | None


class Unguarded(NamedTuple):
    """The caller asked not to be guarded, and the ledger to say so in."""

    ledger: Ledger
    pk: int | None
    why: str


class _OpenRuns:
    """
    The runs this process has open, newest last.

    One that was left is not open any more, even if an error kept it from being taken out of here.

    Attributes:
        elsewhere: The ledger of a run that is open in another process, which handed this task on.
    """

    def __init__(self) -> None:
        # Each with the process that opened it: a forked child finds its parent's.
        self._frames: dict[int, tuple[int, RunFrame]] = {}
        self.elsewhere: Later[Ledger] | None = None

    def add(self, frame: RunFrame) -> None:
        self._frames[id(frame)] = (os.getpid(), frame)

    def remove(self, frame: RunFrame) -> None:
        self._frames.pop(id(frame), None)

    def __bool__(self) -> bool:
        """Return whether a run is open; takes no lock and opens no ledger, so an audit hook may ask."""
        frames = list(self._frames.values())
        is_open = any(not getattr(frame.handle, "left", False) for _, frame in frames)
        return is_open or self.elsewhere is not None

    def newest_ledger(self) -> Ledger | None:
        for _, frame in reversed(list(self._frames.values())):
            if not getattr(frame.handle, "left", False):
                return frame.ledger
        return None if self.elsewhere is None else self.elsewhere.get()

    def replace_inherited(self, elsewhere: Later[Ledger] | None) -> None:
        """
        Forget the runs that were open when this process was forked, in favour of *elsewhere*.

        A worker of a pool lives longer than they do. The process that hands it a task knows better.
        """
        own = {key: one for key, one in list(self._frames.items()) if one[0] == os.getpid()}
        self._frames = own
        self.elsewhere = elsewhere


open_runs = _OpenRuns()


def frames(frame: Frame | None) -> Iterator[CallerFrame]:
    """Yield the frames around here that say who is calling, innermost first."""
    while frame is not None:
        if not isinstance(frame, WireFrame):
            yield frame
        frame = frame.outer


@contextlib.contextmanager
def calling(vendor: str) -> Iterator[None]:
    """Have a call to *vendor* on the wire while the block runs."""
    frame = WireFrame(vendor, active.get())
    token = active.set(frame)
    _all_wires.add(frame)
    try:
        yield
    finally:
        frame.over = True
        _all_wires.discard(frame)
        # A coroutine may be closed in another context than it ran in; that one is done with.
        with contextlib.suppress(ValueError):
            active.reset(token)


_all_wires: set[WireFrame] = set()


def is_called(vendor: str) -> bool:
    """Return whether a call to *vendor* is on the wire anywhere in this process."""
    return any(frame.vendor == vendor for frame in tuple(_all_wires))


def on_the_wire() -> Iterator[WireFrame]:
    """Yield the calls that are on the wire here, innermost first."""
    frame = active.known()
    while frame is not None:
        if isinstance(frame, WireFrame) and not frame.over:
            yield frame
        frame = frame.outer


def leave(frame: Frame) -> None:
    """
    Take *frame* from around the code after it.

    In a generator that ends elsewhere, something else is around by now: that stays. Runs that
    were left before this one, out of order, do not come back.
    """
    if active.get() is not frame:
        return
    outer = frame.outer
    while isinstance(outer, RunFrame) and getattr(outer.handle, "left", False):
        outer = outer.outer
    active.set(outer)


def run_around(frame: Frame | None) -> RunFrame | None:
    """Return the nearest run around here."""
    return next((f for f in frames(frame) if isinstance(f, RunFrame)), None)


def parent_scope(frame: Frame | None, ledger: Ledger, *, wait: bool = True) -> int | None:
    """
    Return the scope that a run opened here stands under; None: it stands alone.

    That is the tool it is opened in, else the run around it, else the run of the ambient key, which
    binds everything in a process that was started with it.

    Raises:
        CredentialUnavailable: The ambient key is forged, or unknown to *ledger*.
    """
    tool: ToolFrame | None = None
    for around in frames(frame):
        if isinstance(around, UnguardedFrame):
            return None
        if isinstance(around, RunFrame):
            if tool is None:
                return around.pk
            return around.ledger.tool(around.pk, tool.name, tool.terms, wait=wait)
        tool = tool or around
    token = next(iter(started_under.vault_keys()), None)
    if token is None:
        return None
    pk = join(token, ledger)[1].pk
    return pk if tool is None else ledger.tool(pk, tool.name, tool.terms, wait=wait)


def resolve(slot_key: str | None, *, wait: bool = True) -> Caller | Unguarded | None:
    """
    Return the caller; None: the call is in no run, and no run is open in this process.

    Args:
        slot_key: The vault key in the SDK's key slot, if there is one.
        wait: See ``Ledger``.

    Raises:
        NoActiveRun: A run is open in this process, or a tool is running, but the call is in none.
        CredentialUnavailable: A vault key is forged or unknown.
        LedgerUnavailable: The ledger cannot say.
    """
    frame = active.get()
    tools: list[ToolFrame] = []
    for around in frames(frame):
        if isinstance(around, ToolFrame):
            tools.append(around)
        elif isinstance(around, UnguardedFrame):
            if slot_key is None and not tools:
                return _unguarded(around)
            break
        elif slot_key is None or _stands_under(around, slot_key):
            return _caller(around, tools, wait=wait)
        else:
            break
    token = slot_key or next(iter(started_under.vault_keys()), None)
    if token is not None:
        joined = join(token)
        keyed = frame_of(*joined, outer=frame if slot_key else None)
        return _caller(keyed, tools, wait=wait)
    if tools or open_runs.newest_ledger() is not None:
        raise _no_active_run(tools)
    return None


def _stands_under(run: RunFrame, key: str) -> bool:
    """Return whether a vault key is that of a run, or of one around it: then it adds nothing."""
    if not vault_key.is_wellformed(key):
        return False
    record = _record(run.ledger, key)
    return record is not None and record.pk in run.scopes


def _caller(run: RunFrame, tools: list[ToolFrame], *, wait: bool) -> Caller:
    scopes = run.scopes
    if tools:
        inside = tuple(run.ledger.tool(run.pk, tool.name, tool.terms, wait=wait) for tool in tools)
        scopes = tuple(dict.fromkeys((run.pk, *inside, *scopes)))
    return Caller(run.ledger, run.pk, run.uid, run.label, scopes, tools[0].name if tools else None)


def frame_of(
    ledger: Ledger, record: RunRecord, *, outer: Frame | None, handle: Any = None
) -> RunFrame:
    """
    Return the frame of a run inside *outer*: the runs and tools around it bind it, too.

    With no run around it, the run of the ambient key is.

    Raises:
        PolicyError: The run around it is in another ledger.
        CredentialUnavailable: The ambient key is forged, or unknown to *ledger*.
    """
    scopes = list(ledger.chain(record.pk))
    tools: list[ToolFrame] = []
    for around in frames(outer):
        if isinstance(around, UnguardedFrame):
            break
        if isinstance(around, ToolFrame):
            tools.append(around)
            continue
        if around.ledger is not ledger:
            msg = f"ledger={ledger.url!r} is another than that of the run around it ({around.ledger.url})"
            raise PolicyError(msg)
        scopes += [ledger.tool(around.pk, tool.name, tool.terms) for tool in tools]
        scopes += around.scopes
        break
    else:
        for token in started_under.vault_keys():
            scopes += ledger.chain(join(token, ledger)[1].pk)
    unique = tuple(dict.fromkeys(scopes))
    return RunFrame(ledger, record.pk, record.uid, record.label, unique, outer, handle)


_MOST_KNOWN = 4096
_known: dict[tuple[Ledger, bytes], RunRecord] = {}


def join(token: str, ledger: Ledger | None = None) -> tuple[Ledger, RunRecord]:
    """
    Return the run a vault key stands for, as it was when this process first met the key.

    Its label and its parents never change. Its state and its spending are read at each decision.

    Raises:
        CredentialUnavailable: The key is forged, or unknown to the ledger.
    """
    check(token)
    ledger = ledger or _default_ledger()
    record = _record(ledger, token)
    if record is None:
        why = f"is not known to the ledger {ledger.url}"
        raise _bad_key(token, why)
    return ledger, record


def _record(ledger: Ledger, token: str) -> RunRecord | None:
    digest = vault_key.digest(token)
    known = _known.get((ledger, digest))
    if known is None:
        known = ledger.join(digest)
        if known is not None:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[ledger, digest] = known
    return known


_default: tuple[settings.Config, Ledger] | None = None


def _default_ledger() -> Ledger:
    global _default  # noqa: PLW0603 -- kept as long as the configuration is
    config = settings.current()
    if _default is None or _default[0] is not config:
        ledger = open_ledger()
        # A relative path means another file in another working directory.
        if not config.ledger.startswith("sqlite:////"):
            return ledger
        _default = (config, ledger)
    return _default[1]


def check(token: str) -> None:
    """Refuse a forged vault key without asking the ledger; see ``join``."""
    if not vault_key.is_wellformed(token):
        why = "is not one that keybrake made: its checksum is wrong" if token else "is empty"
        raise _bad_key(token, why)


def _bad_key(token: str, why: str) -> CredentialUnavailable:
    where = (
        f"The vault key in {started_under.AMBIENT_KEY}"
        if token in started_under.vault_keys()
        else "The vault key"
    )
    message = f"{where} {why}. Nothing was sent. Do not retry; ask a person for a key."
    return CredentialUnavailable(
        message, reason="unknown_vault_key", hint="Issue a key with keybrake.issue_vault_key()."
    )


def _unguarded(frame: UnguardedFrame) -> Unguarded:
    around = run_around(frame.outer)
    if around is not None:
        return Unguarded(around.ledger, around.pk, frame.why)
    return Unguarded(open_runs.newest_ledger() or open_ledger(), None, frame.why)


def _no_active_run(tools: list[ToolFrame]) -> NoActiveRun:
    where = (
        f"in the tool {tools[0].name!r}, outside of every run" if tools else "outside of every run"
    )
    message = (
        f"A vendor call was made {where}. Nothing was sent. Do not retry: the same call will be "
        f"refused again. A developer has to make it inside `with keybrake.run(…):`, or carry the "
        f"run to this thread with keybrake.bind()."
    )
    return NoActiveRun(
        message,
        reason="no_active_run",
        hint="Open a run around the call, use bind(), or write keybrake.unguarded(reason).",
    )
