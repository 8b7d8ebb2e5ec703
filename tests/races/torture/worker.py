"""One worker of a torture run: a process with threads and an event loop, until it is killed."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import stripe

import keybrake
from tests.races.torture import broken
from tests.races.torture.calls import Caller
from tests.races.torture.record import Record
from tests.races.torture.stage import Stage, own_client

_THREADS, _TASKS = 2, 3
# A process leaves in good order now and then, and another takes its place.
_LEAST_CALLS, _MOST_CALLS = 15, 60


def live(stage: Stage, worker: int, life: int) -> NoReturn:
    """Be a worker in a process that was forked for it, and end."""
    status = 1
    try:
        os.setpgid(0, 0)
        record = Record(stage.seen, f"w{worker}-{life}")
        try:
            _Life(stage, worker, life, record).live()
            status = 0
        except BaseException:  # noqa: BLE001 -- the driver tells it, whatever it is
            record.write("crashed", why=traceback.format_exc())
    finally:
        os._exit(status)


class _Life:
    """What a worker does from one start to the next."""

    def __init__(self, stage: Stage, worker: int, life: int, record: Record) -> None:
        self._stage = stage
        self._worker = worker
        self._record = record
        self._ends = (len(stage.plan.threads[worker]), len(stage.plan.tasks[worker]))
        dice = random.Random(f"{stage.plan.seed}/{worker}/{life}")
        self._left = dice.randint(_LEAST_CALLS, _MOST_CALLS)
        self._counting = threading.Lock()
        self._in_good_order = dice.random() < 0.5
        stripe.max_network_retries = dice.choice((0, 0, 1, 2))
        self._caller = Caller(stage.keys, record, stage.seen)

    def live(self) -> None:
        self._prepare()
        crowd = [threading.Thread(target=self._guarded(self._thread)) for _ in range(_THREADS)]
        crowd.append(threading.Thread(target=self._guarded(self._loop)))
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        if not self._stage.progress.left(self._worker, self._ends):
            self._stage.progress.finish(self._worker)
            # Idle, its ledger open: the driver looks whether anything is still locked.
            os.read(self._stage.stay, 1)
        if self._in_good_order:
            # What the interpreter does at its end, were this process not forked.
            atexit._run_exitfuncs()

    def _prepare(self) -> None:
        stage = self._stage
        # Python 3.12 warns of forking with threads, which is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = self._warned
        logging.getLogger("keybrake").addHandler(logging.NullHandler())
        # The SDK's own pauses between attempts, in seconds; ours have less time.
        stripe.HTTPClient.INITIAL_DELAY, stripe.HTTPClient.MAX_DELAY = 0.02, 0.1
        stripe.default_http_client = own_client()
        if stage.broken:
            broken.ENGINES[stage.broken]()

    def _warned(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, RuntimeWarning) and "could not be written down" in str(message):
            self._record.write("unsettled", why=str(message))

    def _left_over(self, _loop: object, context: dict[str, Any]) -> None:
        """Write down what an event loop finds that nobody waited for."""
        self._record.write("left_over", why=str(context.get("exception") or context["message"]))

    def _guarded(self, lane: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                lane()
            except BaseException:  # noqa: BLE001 -- the driver tells it, whatever it is
                self._record.write("crashed", why=traceback.format_exc())

        return run

    def _take(self, lane: int) -> int | None:
        with self._counting:
            if self._left == 0:
                return None
            self._left -= 1
        return self._stage.progress.take(self._worker, lane, self._ends[lane])

    def _thread(self) -> None:
        calls = self._stage.plan.threads[self._worker]
        while (taken := self._take(0)) is not None:
            try:
                self._caller.make(calls[taken])
            except keybrake.CallRefused as refusal:
                self._stayed_out(refusal)

    async def _task(self) -> None:
        calls = self._stage.plan.tasks[self._worker]
        while (taken := self._take(1)) is not None:
            try:
                await self._caller.make_async(calls[taken])
            except keybrake.CallRefused as refusal:
                self._stayed_out(refusal)

    def _stayed_out(self, refusal: keybrake.CallRefused) -> None:
        """Write down that a run could not even be joined or opened, so no call was made."""
        self._record.write("stayed_out", reason=refusal.reason, why=str(refusal))

    def _loop(self) -> None:
        async def tasks() -> None:
            asyncio.get_running_loop().set_exception_handler(self._left_over)
            await asyncio.gather(*(self._task() for _ in range(_TASKS)))
            await stripe.default_http_client.close_async()

        asyncio.run(tasks())
