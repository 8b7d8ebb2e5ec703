"""What the simulation has found, told step by step: does it stay mended?"""

from collections.abc import Iterator

import pytest

import keybrake
from keybrake.guard import call
from keybrake.guard.caller import RunFrame, active
from keybrake.guard.task_batching import LedgerStep
from keybrake.ledger import NewRun
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.policy.policy import Policy, terms_of
from tests.model._flight import VirtualDoor
from tests.model._world import World, world


@pytest.fixture
def made() -> Iterator[World]:
    """Make a world with one process."""
    with world(1) as made:
        made.start()
        yield made


@pytest.fixture
def ledger(made: World) -> Iterator[SQLiteLedger]:
    """Open a run with a cap of a dollar, ``run_1``, and be in it."""
    ledger = made.processes[0].ledger
    pk = ledger.open_run(NewRun("run_1", "run", terms_of(Policy(cap=1)), None, bytes(32)))
    token = active.set(RunFrame(ledger, pk, "run_1", "run", (pk,), None))
    yield ledger
    active.reset(token)


def test_a_run_that_is_resumed_meanwhile_sends_nothing_unpriced(made, ledger):
    """A call whose amount nobody looked up, its run being paused, is refused when that goes on."""
    door = VirtualDoor(made, "POST", "/v1/payment_intents/pi_9/confirm", {}, None)
    way = call.guarded(door)
    made.ways.append(way)
    who_is_calling = next(way)

    # Given a run that is paused when the guard asks whether the vendor is to be asked at all
    ledger.pause("run_1")
    admit = way.send(who_is_calling.take(wait=True))
    assert isinstance(admit, LedgerStep)

    # When it goes on before the call is admitted
    ledger.resume("run_1")

    with pytest.raises(keybrake.CallRefused):
        admit.take(wait=True)
