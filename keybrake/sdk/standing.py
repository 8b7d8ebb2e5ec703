"""The run and tools around code that starts or feeds another process, and how they get there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from keybrake.config import settings, started_under
from keybrake.config.config_file import NobodyInFront
from keybrake.config.settings import Config
from keybrake.errors import PolicyError
from keybrake.guard import caller
from keybrake.guard.caller import CallerFrame, Frame, RunFrame, ToolFrame, UnguardedFrame, active
from keybrake.guard.surroundings import Later
from keybrake.ledger import open_ledger
from keybrake.policy.policy import Terms
from keybrake.sdk import patch


@dataclass(frozen=True, slots=True)
class _InRun:
    """A run is around, which another process joins by its key. *kind*: ``keybrake.Run``."""

    kind: Callable[..., Any]
    label: str
    ledger: str
    key: str = field(repr=False)

    def inside(self, outer: Frame | None) -> Frame:
        ledger = open_ledger(self.ledger)
        record = caller.join(self.key, ledger)[1]
        handle = self.kind(self.label, None, key=self.key, ledger=ledger)
        frame = caller.frame_of(ledger, record, outer=outer, handle=handle)
        handle.is_joined_in(frame)
        return frame


@dataclass(frozen=True, slots=True)
class _InTool:
    """A tool is around."""

    name: str
    terms: Terms

    def inside(self, outer: Frame | None) -> Frame:
        return ToolFrame(self.name, self.terms, outer)


@dataclass(frozen=True, slots=True)
class _Unguarded:
    """The code runs inside ``unguarded``."""

    why: str

    def inside(self, outer: Frame | None) -> Frame:
        return UnguardedFrame(self.why, outer)


@dataclass(frozen=True, slots=True)
class Standing:
    """
    The run and tools around code, in a form that another process of this machine can take over.

    It pickles, and it holds vault keys: it travels through pipes, and in no command line.

    Attributes:
        steps: The runs, tools and unguarded blocks around, outermost first.
        keys: The vault keys that bind the process.
        elsewhere: The ledger of the newest run that is open in the process.
        config: The configuration of the process.
        pid: The process.
    """

    steps: tuple[_InRun | _InTool | _Unguarded, ...]
    keys: tuple[str, ...] = field(repr=False)
    elsewhere: str | None
    config: Config | None = field(repr=False)
    pid: int

    @property
    def binds(self) -> bool:
        """Whether a vendor call that is made here is anything but left alone."""
        return bool(self.steps or self.keys or self.elsewhere)

    def take_over(self) -> None:
        """Make this process one in which the same calls are guarded as where this comes from."""
        if os.getpid() == self.pid:
            return
        if self.binds:
            if self.config is not None and not settings.is_read():
                settings.set_current(self.config)
            _guard()
        started_under.bind_by(self.keys)
        url = self.elsewhere
        caller.open_runs.replace_inherited(None if url is None else Later(lambda: open_ledger(url)))

    def around(self) -> Later[Frame] | Frame | None:
        """Return the frames to put around code that stands here."""
        return Later(self._frame) if self.steps else _entered_here()

    def _frame(self) -> Frame:
        around: Frame | None = None
        for step in self.steps:
            around = step.inside(around)
        if around is None:
            msg = "nothing is around this code, so no frame can be made of it"
            raise LookupError(msg)
        return around

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have it around a block, in whatever process."""
        self.take_over()
        token = active.set(self.around())
        try:
            yield
        finally:
            active.reset(token)


def here() -> Standing:
    """Return the run and tools around the calling code."""
    steps = tuple(map(_step, reversed(list(caller.frames(active.get())))))
    keys = started_under.vault_keys()
    newest = caller.open_runs.newest_ledger()
    config = None
    if steps or keys or newest is not None:
        # A configuration that cannot be read is no reason to start no process.
        with contextlib.suppress(PolicyError):
            config = settings.current()
    elsewhere = None if newest is None else newest.url
    return Standing(steps, keys, elsewhere, config, os.getpid())


def _step(frame: CallerFrame) -> _InRun | _InTool | _Unguarded:
    if isinstance(frame, RunFrame):
        run = frame.handle
        return _InRun(type(run), run.label, frame.ledger.url, run.key)
    if isinstance(frame, ToolFrame):
        return _InTool(frame.name, frame.terms)
    return _Unguarded(frame.why)


def _guard() -> None:
    if patch.is_on():
        return
    from keybrake import sdk

    with contextlib.suppress(NobodyInFront):  # each vendor call is refused for it
        sdk.install()


def _entered_here() -> Frame | None:
    """
    Return the run that this process entered by itself, such as a worker when it begins.

    A run that was only around when the worker was started is none of its own: the worker lives on.
    """
    return next(
        (
            frame
            for frame in caller.frames(active.get())
            if isinstance(frame, RunFrame) and frame.handle.was_entered_by(os.getpid())
        ),
        None,
    )
