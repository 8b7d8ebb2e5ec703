"""One seeded life: who lives in it, whose step comes next, and how it ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from keybrake import Limit
from keybrake.credentials import Credential
from keybrake.errors import KeybrakeError
from keybrake.guard.reconcile import Reconciler
from keybrake.ledger import NewRun
from keybrake.model import clock
from keybrake.model.call import Attempt, Reply
from keybrake.policy.policy import Policy, Terms, terms_of
from keybrake.vendors.inquiry import Inquiry
from tests.model._agents import Agent
from tests.model._flight import CREDENTIAL, deliver
from tests.model._vendor import Sent
from tests.model._world import World

STEPS = 400
PERIODS = ("run", "day", "2h")
TOOL = terms_of(Policy(cap=9, max_calls=6))
# What happens beside the agents' own steps, and how often.
MEDDLING = {
    "word": 6,
    "reconcile": 8,
    "deliver": 4,
    "lock": 3,
    "set_clock": 3,
    "wait": 2,
    "kill": 2,
    "start": 1,
}


class Life:
    """
    Agents of several processes on shared runs, and whoever meddles with them.

    Attributes:
        steps: How many were taken.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = 0
        dice = world.dice
        for _ in range(dice.randint(1, 3)):
            world.start()
        self.runs: list[int] = []
        self.uids: dict[int, str] = {}
        for _ in range(dice.choice([1, 1, 2])):
            self._open(None)
        for _ in range(dice.randint(0, 2)):
            self._open(dice.choice(self.runs))
        world.eyes.look()
        self.agents = [self._agent() for _ in range(dice.randint(2, 4))]

    @property
    def is_busy(self) -> bool:
        """Whether anybody has anything left to do."""
        return any(agent.is_busy for agent in self.agents)

    def live(self) -> None:
        """Take step after step until nobody has anything to do, or time is up."""
        while self.is_busy and self.steps < STEPS:
            self._step()
            self._bury_the_dead()
            self.world.eyes.look()
            self.steps += 1

    # Who lives here

    def _terms(self) -> Terms:
        dice = self.world.dice
        limits = {}
        if dice.random() < 0.4:
            pattern = dice.choice(["stripe.payment_intents.create", "stripe.payment_intents.*"])
            limits[pattern] = Limit(cap=dice.randint(3, 12), per=dice.choice(PERIODS))
        return terms_of(
            Policy(
                cap=dice.choice([None, dice.randint(4, 20), dice.randint(4, 20)]),
                max_calls=dice.choice([None, None, None, dice.randint(2, 8)]),
                daily_usd_cap=dice.choice([None, None, dice.randint(4, 15)]),
                limits=limits,
            )
        )

    def _open(self, parent: int | None) -> None:
        dice, world = self.world.dice, self.world
        uid = f"run_{len(self.runs)}"
        lives_for = dice.choice([None, None, dice.randint(1, 30) * clock.HOUR])
        digest = uid.encode().ljust(32)
        new = NewRun(uid, uid, self._terms(), lives_for, digest, parent=parent)
        pk = dice.choice(world.processes).ledger.open_run(new)
        self.runs.append(pk)
        self.uids[pk] = uid

    def _agent(self) -> Agent:
        dice = self.world.dice
        tool = (f"tool_{dice.randint(0, 1)}", TOOL) if dice.random() < 0.3 else None
        process = dice.choice(self.world.alive())
        return Agent(self.world, process, dice.choice(self.runs), tool, dice.randint(1, 4))

    # Whose step comes next

    def _step(self) -> None:
        dice, world = self.world.dice, self.world
        world.passes(dice.randint(0, 200_000))
        if dice.random() < 0.85:
            dice.choice([agent for agent in self.agents if agent.is_busy]).tick()
            return
        names, weights = [*MEDDLING], [*MEDDLING.values()]
        name = dice.choices(names, weights)[0]
        getattr(self, f"_{name}")()

    def _bury_the_dead(self) -> None:
        for agent in self.agents:
            if not agent.process.is_alive:
                agent.drop()
        if not self.world.alive():
            self._start()

    def _lock(self) -> None:
        self.world.is_locked = not self.world.is_locked
        self.world.tell("somebody", "locks" if self.world.is_locked else "unlocks")

    def _deliver(self) -> None:
        mail = self.world.mail
        if mail:
            sent = mail.pop(self.world.dice.randrange(len(mail)))
            self.world.tell("late arrival of", sent.path, sent.key)
            deliver(self.world, sent)

    def _set_clock(self) -> None:
        hours = self.world.dice.choice([-30, -1, 1, 1, 3, 30])
        self.world.now += hours * clock.HOUR
        if hours < 0:
            # How old a call is nobody can tell then, nor whether its key is still good: README.md.
            self.world.vendor.prunes = False
        self.world.tell("the clock is set", hours, "h")

    def _wait(self) -> None:
        self.world.passes(self.world.dice.choice([1, 20, 100, 600]) * clock.MINUTE)

    def _kill(self) -> None:
        self.world.dice.choice(self.world.alive()).die()
        self.world.tell("somebody kills a process")

    def _start(self) -> None:
        with self._unlocked():
            self.world.start()
            if len(self.agents) < 8:
                self.agents.append(self._agent())

    @contextlib.contextmanager
    def _unlocked(self) -> Iterator[None]:
        # Opening waits for the lock for real, and nobody would let go of it meanwhile.
        locked, self.world.is_locked = self.world.is_locked, False
        try:
            yield
        finally:
            self.world.is_locked = locked

    def _word(self) -> None:
        """Say a word to a run: it binds once it has been said without an error."""
        dice, world = self.world.dice, self.world
        pk = dice.choice(self.runs)
        word = dice.choices(["revoke", "pause", "resume", "close"], [1, 4, 6, 1])[0]
        ledger = dice.choice(world.alive()).ledger
        if word == "resume":
            world.eyes.stopped.discard(pk)
        try:
            if word == "close":
                ledger.close_run(pk)
            else:
                getattr(ledger, word)(self.uids[pk])
        except KeybrakeError as error:
            world.tell(word, pk, error)
            return
        world.tell(word, pk)
        if word != "resume":
            world.eyes.stopped.add(pk)

    def _reconcile(self) -> None:
        """Ask the vendor about one call in doubt, as keybrake reconcile does."""
        world = self.world
        reconciler = self.reconciler()
        with contextlib.suppress(KeybrakeError):
            work = reconciler.work()
            if not work:
                return
            one = world.dice.choice(work)
            world.tell("reconcile", reconciler.reconcile(one))

    def reconciler(self) -> Reconciler:
        """Return one with the operator's credential, in some process."""
        ledger = self.world.dice.choice(self.world.alive()).ledger
        return Reconciler(ledger, credentials={"stripe": Credential(CREDENTIAL)})

    def ask(self, _origin: str, _vendor: str, inquiry: Inquiry, *_: object) -> Reply:
        """Stand in for the network between reconciling and the vendor."""
        world = self.world
        sent = Sent(inquiry.method, inquiry.path, inquiry.params, inquiry.idempotency_key)
        fate = world.dice.choices(["answered", "never arrives", "no answer"], [8, 1, 1])[0]
        world.tell("  asks", sent.method, sent.path, sent.key, fate)
        answer = None if fate == "never arrives" else deliver(world, sent)
        if answer is None or fate == "no answer":
            raise OSError(fate)
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
        text = json.dumps(answer.body)
        return Reply(answer.status, headers, text, (Attempt(answer.status),))
