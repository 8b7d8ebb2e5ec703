"""Say which requests go wrong, and how."""

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

# Nothing happens at the vendor.
BEFORE: Final[frozenset[str]] = frozenset(get_args(FaultBefore))
# The request is carried out; what goes wrong is the answer.
AFTER: Final[frozenset[str]] = frozenset(get_args(FaultAfter))
# A redirect needs somewhere to go, so chaos leaves it out.
CHAOS: Final[tuple[FaultKind, ...]] = tuple(
    kind for kind in (*get_args(FaultBefore), *get_args(FaultAfter)) if kind != "redirect"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One way a request goes wrong.

    Attributes:
        kind: Nothing happens: ``error_500_before``, ``reset_before``, ``rate_limit``, ``conflict``,
            ``redirect``. It happens, but the answer is bad: ``error_500_after``, ``timeout_after``,
            ``reset_after``, ``truncate``, ``garbage``, ``slow``.
        method: Only requests with this method; None for every method.
        path: Only requests whose path begins so.
        when: Only requests for which this is true.
        probability: How likely a request that matches goes wrong.
        seed: Makes *probability* repeatable.
        hang: Seconds until ``timeout_after`` closes the connection.
        delay: Seconds ``slow`` takes longer.
        location: Where ``redirect`` points.

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
        """Refuse a fault that could never be acted out."""
        if self.kind not in BEFORE | AFTER:
            known = ", ".join(sorted(BEFORE | AFTER))
            msg = f"unknown fault {self.kind!r}; the kinds are {known}"
            raise ValueError(msg)
        if self.kind == "redirect" and not self.location:
            msg = "a redirect needs a location"
            raise ValueError(msg)

    def matches(self, request: Request) -> bool:
        """Tell whether *request* is one this fault is meant for."""
        return (
            self.method in {None, request.method}
            and request.path.startswith(self.path)
            and (self.when is None or self.when(request))
        )


class FaultPlan:
    """Hand out faults to requests, each as often as it was asked for."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._chaos: _Chaos | None = None
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault, times: int | None = 1) -> None:
        """Let *fault* befall the next *times* requests it matches; None is for ever."""
        with self._lock:
            self._armed.append(_Armed(fault, times, random.Random(fault.seed)))

    def chaos(self, rate: float, *, seed: int, kinds: Iterable[FaultKind], hang: float) -> None:
        """Let any POST go wrong with probability *rate*, in one of *kinds*."""
        faults = tuple(Fault(kind, hang=hang, delay=hang) for kind in kinds)
        with self._lock:
            self._chaos = _Chaos(rate, faults, random.Random(seed)) if rate else None

    def clear(self) -> None:
        """Forget every fault that has not struck yet, and chaos."""
        with self._lock:
            self._armed.clear()
            self._chaos = None

    def take(self, request: Request) -> Fault | None:
        """Return the fault that befalls *request*, oldest first, and use it up."""
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
