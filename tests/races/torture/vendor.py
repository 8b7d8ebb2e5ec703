"""The vendor of a torture run: the fake Stripe, each call failing as the plan says."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from urllib.parse import parse_qs

from keybrake.testing import FakeStripe, Fault
from keybrake.testing.faults import CHAOS
from keybrake.testing.process import serve
from keybrake.testing.server import Request

# Longer than the workers wait for an answer.
_HANG_S = 3.0
_SLOW_S = 0.15


def planned(kind: str) -> Callable[[Request], bool]:
    """Return whether a request is one that the plan has go wrong so; each call's first few are."""
    struck: Counter[str] = Counter()

    def strikes(request: Request) -> bool:
        call, fault, times = _said(request.body)
        if fault != kind or struck[call] >= times:
            return False
        struck[call] += 1
        return True

    return strikes


@functools.lru_cache(maxsize=64)
def _said(body: bytes) -> tuple[str, str, int]:
    """Return which call it is, what shall befall it, and how often, as its metadata says."""
    form = parse_qs(body.decode())
    call, fault, strikes = (
        form.get(f"metadata[{name}]", [""])[0] for name in ("call", "fault", "strikes")
    )
    return call, fault, int(strikes or 0)


def start(port: int, journal: str | None, latency: float) -> FakeStripe:
    """Return the fake, with every fault armed for whom the plan names."""
    fake = FakeStripe(port=port, journal_path=journal, latency=latency)
    for kind in CHAOS:
        fake.inject(Fault(kind, when=planned(kind), hang=_HANG_S, delay=_SLOW_S), times=None)
    return fake


if __name__ == "__main__":
    sys.exit(serve("tests.races.torture.vendor", start, None))
