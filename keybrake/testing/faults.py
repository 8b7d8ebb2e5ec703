"""Define the faults of a fake vendor: which requests fail, and how."""

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from keybrake.testing.server import Request

FaultBefore = Literal["error_500_before", "reset_before", "rate_limit", "conflict", "redirect"]
FaultAfter = Literal[
    "error_500_after", "timeout_after", "reset_after", "truncate", "garbage", "slow"
]
FaultKind = FaultBefore | FaultAfter

# Faults that strike before the vendor acts: nothing happens there.
BEFORE: Final[frozenset[str]] = frozenset(get_args(FaultBefore))
# Faults of the answer: the vendor has carried out the request.
AFTER: Final[frozenset[str]] = frozenset(get_args(FaultAfter))
# Chaos leaves out redirects, because a redirect needs a location.
CHAOS: Final[tuple[FaultKind, ...]] = tuple(
    kind for kind in (*get_args(FaultBefore), *get_args(FaultAfter)) if kind != "redirect"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A way in which a request fails.

    Attributes:
        kind: The vendor does nothing: ``error_500_before``, ``reset_before``, ``rate_limit``,
            ``conflict``, ``redirect``. The vendor acts, but the answer is bad or late:
            ``error_500_after``, ``timeout_after``, ``reset_after``, ``truncate``, ``garbage``,
            ``slow``.
        method: Match only requests with this method; None matches every method.
        path: Match only requests whose path starts with this prefix.
        when: Match only requests for which this function returns True.
        probability: The share of matching requests that fail.
        seed: The seed that makes *probability* repeatable.
        hang: Seconds until ``timeout_after`` closes the connection.
        delay: Seconds by which ``slow`` delays the answer.
        location: The URL that ``redirect`` points to.

    """

    kind: FaultKind
    method: str | None = "POST"
    path: str = "/"
    when: Callable[[Request], bool] | None = None
    probability: float = 1.0
    seed: int | None = None
    hang: float = 30.0
    delay: float = 1.0
    location: str = ""

    def __post_init__(self) -> None:
        """Reject an unknown kind, and a redirect without a location."""
        if self.kind not in BEFORE | AFTER:
            known = ", ".join(sorted(BEFORE | AFTER))
            msg = f"unknown fault {self.kind!r}; the kinds are {known}"
            raise ValueError(msg)
        if self.kind == "redirect" and not self.location:
            msg = "a redirect needs a location"
            raise ValueError(msg)

    def matches(self, request: Request) -> bool:
        """Return whether this fault applies to *request*."""
        return (
            self.method in {None, request.method}
            and request.path.startswith(self.path)
            and (self.when is None or self.when(request))
        )


class FaultPlan:
    """Choose the fault that strikes a request, and count how often each fault may still strike."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._chaos: _Chaos | None = None
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault, times: int | None = 1) -> None:
        """Apply *fault* to the next *times* requests that match it; None: to all of them."""
        with self._lock:
            self._armed.append(_Armed(fault, times, random.Random(fault.seed)))

    def chaos(self, rate: float, *, seed: int, kinds: Iterable[FaultKind], hang: float) -> None:
        """Make each POST fail with probability *rate*, with a random fault of *kinds*."""
        faults = tuple(Fault(kind, hang=hang, delay=hang) for kind in kinds)
        with self._lock:
            self._chaos = _Chaos(rate, faults, random.Random(seed)) if rate else None

    def clear(self) -> None:
        """Drop all pending faults, and end the chaos."""
        with self._lock:
            self._armed.clear()
            self._chaos = None

    def take(self, request: Request) -> Fault | None:
        """Return the oldest fault that strikes *request*, and count it as used."""
        with self._lock:
            for armed in self._armed:
                if armed.strikes(request):
                    if armed.left == 0:
                        self._armed.remove(armed)
                    return armed.fault
            return self._chaos.take(request) if self._chaos else None


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None
    dice: random.Random

    def strikes(self, request: Request) -> bool:
        if not self.fault.matches(request) or self.dice.random() >= self.fault.probability:
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class _Chaos:
    rate: float
    faults: tuple[Fault, ...]
    dice: random.Random

    def take(self, request: Request) -> Fault | None:
        if request.method != "POST" or self.dice.random() >= self.rate:
            return None
        return self.dice.choice(self.faults)
