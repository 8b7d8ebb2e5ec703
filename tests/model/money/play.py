"""Carry a program out under a real run: with the real SDK, in tasks, in threads, or in two processes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import stripe

import keybrake
from keybrake.errors import CallRefused
from tests.model.money.desk import Call
from tests.model.money.program import resolved


class Ended(NamedTuple):
    """
    How a call ended.

    Attributes:
        how: ``done``, ``refused``, ``declined`` by the vendor, ``unknown``, or ``skipped`` because
            the object that it is about was never made.
        why: The reason of a refusal.
        made: The id of the object in the answer.
    """

    call: Call
    how: str
    why: str = ""
    made: str = ""


class Wire(NamedTuple):
    """Where the vendor listens, and how long and how often the SDK tries."""

    url: str
    timeout_s: float
    retries: int

    def client(self, http_client: Any) -> stripe.StripeClient:
        """Return an SDK client for the stub."""
        return stripe.StripeClient(
            "sk_test_money",
            base_addresses={"api": self.url, "meter_events": self.url},
            http_client=http_client,
            max_network_retries=self.retries,
        )


Step = tuple[tuple[Call, ...], ...]
Ids = dict[str, str]


def _ready(call: Call, ids: Ids) -> Call | None:
    """Return a call with the ids that it needs; None: one of these objects was never made."""
    try:
        given = tuple(resolved(list(call.ids), ids))
        return call._replace(ids=given, params=resolved(call.params or {}, ids))
    except KeyError:
        return None


def _method(client: stripe.StripeClient, name: str) -> Any:
    """Return a method of the SDK by its name."""
    found: Any = client if name.startswith("v2.") else client.v1
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _failed(call: Call, error: Exception) -> Ended:
    if isinstance(error, CallRefused):
        return Ended(call, "refused", error.reason)
    if isinstance(error, stripe.APIConnectionError) or getattr(error, "http_status", 0) == 500:
        return Ended(call, "unknown")
    if isinstance(error, stripe.InvalidRequestError):
        return Ended(call, "declined", str(error.user_message))
    raise error


def _branch(client: stripe.StripeClient, calls: tuple[Call, ...], known: Ids) -> list[Ended]:
    """Make calls one after the other; a later one may be about what an earlier one made."""
    ended, ids = [], dict(known)
    for named in calls:
        if (call := _ready(named, ids)) is None:
            ended.append(Ended(named, "skipped"))
            continue
        try:
            answer = _method(client, call.name)(*call.ids, call.params or None)
            ended.append(_done(call, answer.id, ids))
        except Exception as error:  # noqa: BLE001 -- told apart in one place
            ended.append(_failed(call, error))
    return ended


async def _branch_async(
    client: stripe.StripeClient, calls: tuple[Call, ...], known: Ids
) -> list[Ended]:
    """Make calls one after the other; a later one may be about what an earlier one made."""
    ended, ids = [], dict(known)
    for named in calls:
        if (call := _ready(named, ids)) is None:
            ended.append(Ended(named, "skipped"))
            continue
        try:
            method = _method(client, f"{call.name}_async")
            answer = await method(*call.ids, call.params or None)
            ended.append(_done(call, answer.id, ids))
        except Exception as error:  # noqa: BLE001 -- told apart in one place
            ended.append(_failed(call, error))
    return ended


def _done(call: Call, made: str, ids: Ids) -> Ended:
    if call.save:
        ids[call.save] = made
    return Ended(call, "done", made=made)


Player = Callable[[Step, Ids], list[Ended]]


@contextlib.contextmanager
def in_tasks(wire: Wire) -> Iterator[Player]:
    """Play the branches of a step as tasks of one event loop."""
    http_client = stripe.HTTPXClient(timeout=wire.timeout_s)
    client = wire.client(http_client)

    async def play(step: Step, ids: Ids) -> list[Ended]:
        ended = await asyncio.gather(*(_branch_async(client, calls, ids) for calls in step))
        return [one for branch in ended for one in branch]

    with asyncio.Runner() as runner:
        yield lambda step, ids: runner.run(play(step, ids))
        runner.run(http_client.close_async())


@contextlib.contextmanager
def in_threads(wire: Wire) -> Iterator[Player]:
    """Play the branches of a step in a thread each; the first one in the thread of the caller."""
    with _connected(wire) as client:
        yield lambda step, ids: _in_threads(lambda calls: _branch(client, calls, ids), step)


@contextlib.contextmanager
def _connected(wire: Wire) -> Iterator[stripe.StripeClient]:
    http_client = stripe.RequestsClient(timeout=wire.timeout_s)
    try:
        yield wire.client(http_client)
    finally:
        http_client.close()


def _in_threads(branch: Callable[[tuple[Call, ...]], list[Ended]], step: Step) -> list[Ended]:
    ended: list[list[Ended]] = [[] for _ in step]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            ended[number] = branch(step[number])
        except BaseException as error:  # noqa: BLE001 -- raised again where the step is played
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, len(step))]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [one for made in ended for one in made]


class OtherProcess:
    """A second process of the agent's. It is started once, and joins the run of each program."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, job: Any) -> None:
        """Send a job."""
        self._pipe.send(job)

    def hear(self) -> list[Ended]:
        """Return how the calls of the job ended."""
        return self._pipe.recv()

    def close(self) -> None:
        """Let the process end."""
        self._pipe.close()
        self._process.join(10)
        self._process.close()


def _serve(pipe: Any) -> None:
    """Play the branches that come through a pipe, each under the run whose key comes along."""
    with contextlib.suppress(EOFError):
        while True:
            wire, key, ledger, calls, ids = pipe.recv()
            with keybrake.run(key=key, ledger=ledger), _connected(wire) as client:
                pipe.send(_branch(client, calls, ids))


@contextlib.contextmanager
def in_processes(wire: Wire, other: OtherProcess, key: str, ledger: str) -> Iterator[Player]:
    """Play the last branch of a step in another process, the others in threads of this one."""
    with in_threads(wire) as play:

        def played(step: Step, ids: Ids) -> list[Ended]:
            if len(step) < 2:
                return play(step, ids)
            other.tell((wire, key, ledger, step[-1], ids))
            return play(step[:-1], ids) + other.hear()

        yield played
