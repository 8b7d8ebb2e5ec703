"""What a process is doing when something happens to it: prepare, wait for the word, act."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import stripe

import keybrake
from keybrake.ledger import Ledger
from keybrake.model.call import Outcome, State
from tests.races._many import point_at

LABEL = "crash"
CENTS = 700
CAP_USD = 21  # three calls
# A request that carries this word is carried out, and answered with a 500: see ``fake_vendor``.
LOST = "lost-on-the-way"


class Scene(NamedTuple):
    """Where an act is played: a ledger's URL, a fake vendor's, and the key of a run (or None)."""

    ledger: str
    vendor: str
    key: str | None

    @property
    def file(self) -> str:
        """The ledger's path."""
        return self.ledger.removeprefix("sqlite:///")


# Runs up to its ``yield``, waits there for the word, and goes on.
Act = Callable[[Scene], Iterator[Any]]


def pay(**more: Any) -> str:
    """Charge seven dollars through the real SDK and return the id of the payment."""
    asked = {"amount": CENTS, "payment_method": "pm_card_visa", "confirm": True, **more}
    return stripe.PaymentIntent.create(currency="usd", **asked).id


def ledger_of(scene: Scene) -> Ledger:
    """Return the scene's ledger as this process has it open."""
    return keybrake.open_ledger(scene.ledger)


def uid_of(scene: Scene) -> str:
    """Return the id of the scene's run."""
    with keybrake.run(key=scene.key, ledger=scene.ledger) as run:
        return run.id


def call(scene: Scene) -> Iterator[None]:
    """One guarded call that succeeds: reserve, connect, send, read, settle."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        yield
        pay()


def second_call(scene: Scene) -> Iterator[None]:
    """One guarded call on a connection that is open: all that a busy agent does, over and over."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        pay()
        yield
        pay()


def first_call(scene: Scene) -> Iterator[None]:
    """The same, with all that a new process does before it: open the ledger, find the run."""
    keybrake.install()
    yield
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        pay()


def tasks(scene: Scene) -> Iterator[None]:
    """Two guarded calls of one event loop: they share a transaction."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        yield
        asyncio.run(pay_together(scene.vendor))


async def pay_together(vendor: str) -> None:
    """Charge seven dollars in each of two tasks."""
    bases: Any = {"api": vendor}
    client = stripe.HTTPXClient()
    intents = stripe.StripeClient(
        "sk_test_x", http_client=client, base_addresses=bases, max_network_retries=0
    ).v1.payment_intents
    asked: Any = {"amount": CENTS, "payment_method": "pm_card_visa", "confirm": True}
    await asyncio.gather(*(intents.create_async({"currency": "usd", **asked}) for _ in range(2)))


def void(scene: Scene) -> Iterator[None]:
    """A call that the vendor declines: its reservation is dropped."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        yield
        with contextlib.suppress(stripe.CardError):
            pay(payment_method="pm_card_chargeDeclined")


def lost(scene: Scene) -> Iterator[None]:
    """A call whose answer nobody can read: it becomes unknown."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        yield
        with contextlib.suppress(stripe.StripeError):
            pay(metadata={"answer": LOST})


def refused(scene: Scene) -> Iterator[None]:
    """A call that does not fit: its refusal is written down."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        yield
        with contextlib.suppress(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=CAP_USD * 100 + 1, currency="usd")


def revoke(scene: Scene) -> Iterator[None]:
    """The run is ended from outside."""
    ledger, uid = ledger_of(scene), uid_of(scene)
    yield
    ledger.revoke(uid)


def run(scene: Scene) -> Iterator[None]:
    """A run is opened and closed."""
    ledger = ledger_of(scene)
    yield
    with keybrake.run("another", cap=1, ledger=ledger):
        pass


def issue(scene: Scene) -> Iterator[None]:
    """A vault key is issued."""
    ledger = ledger_of(scene)
    yield
    keybrake.issue_vault_key("another", cap=1, ledger=ledger)


def resolve(scene: Scene) -> Iterator[None]:
    """A person says that an unknown call cost what it had set aside."""
    ledger = ledger_of(scene)
    for _ in lost(scene):
        pass
    found = ledger.in_doubt()[0]
    yield
    ledger.resolve(found.seq, _AS_RESERVED, "a person looked")


def make(scene: Scene) -> Iterator[None]:
    """The first run of a ledger that is not there yet."""
    os.rename(scene.file, f"{scene.file}-away")  # noqa: PTH104 -- a name is all there is
    os.rename(f"{scene.file}.seal", f"{scene.file}-away.seal")  # noqa: PTH104 -- as above
    yield
    keybrake.issue_vault_key("another", cap=1, ledger=scene.ledger)


def leave(scene: Scene) -> Iterator[None]:
    """The last process to leave writes the log back."""
    with keybrake.run(key=scene.key, ledger=scene.ledger):
        pay()
    ledger: Any = ledger_of(scene)
    yield
    ledger.close()


_AS_RESERVED = Outcome(State.SETTLED)

ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        call,
        second_call,
        first_call,
        tasks,
        void,
        lost,
        refused,
        revoke,
        run,
        issue,
        resolve,
        make,
        leave,
    )
}


def play(stage: Connection, scene: Scene, act: Act, engine: Callable[[], None] | None) -> None:
    """Be a process that plays *act*: say when it is ready, wait, and say how it ended."""
    if engine is not None:
        engine()
    point_at(scene.vendor)
    steps = act(scene)
    try:
        next(steps)
        stage.send("ready")
        stage.recv()
        answer = next(steps, "done")
    except BaseException as error:  # noqa: BLE001 -- the test decides what it means
        answer = f"{type(error).__module__}.{type(error).__name__}: {error}"
    stage.send(answer)


# An engine that is broken may refuse nothing.
_MORE_THAN_FIT = 5


class After(NamedTuple):
    """What was found and done after a crash."""

    doubts: list[int]
    sent: int
    ended: str
    verified: str


def go_on(scene: Scene) -> Iterator[Any]:
    """What comes after a crash: list what is in doubt, charge until refused, verify it all."""
    yield
    ledger = ledger_of(scene)
    key = scene.key
    if not any(record.label == LABEL for record in ledger.runs()):
        key = keybrake.issue_vault_key("after", cap=CAP_USD, ledger=ledger)
    doubts = [doubt.seq for doubt in ledger.in_doubt()]
    sent, ended = 0, ""
    with keybrake.run(key=key, ledger=ledger):
        while not ended and sent < _MORE_THAN_FIT:
            try:
                pay()
            except keybrake.CallRefused as refusal:
                ended = refusal.reason
            else:
                sent += 1
    yield After(doubts, sent, ended, verified(scene))


def verified(scene: Scene) -> str:
    """Return what ``keybrake verify`` finds wrong; nothing, if there is no such command."""
    from keybrake.cli import app

    if "verify" not in app.app.commands:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = app.run(["--ledger", scene.ledger, "verify"])
    return "" if status == 0 else f"verify exits with {status}: {said.getvalue()}"
