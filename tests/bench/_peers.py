"""The same work in other libraries: reserve a cent and settle it, as each of them does that."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

DAY_S = 86_400


class Pyrate:
    """
    pyrate-limiter's file-locked SQLite bucket: one put, no money, nothing to settle.

    Args:
        path: Of its file.
        live: How many items the window holds; 0: each item leaves it at once.
    """

    def __init__(self, path: Path, *, live: int = 0) -> None:
        from pyrate_limiter import Rate, RateItem, SQLiteBucket

        self._item = RateItem
        window_ms = DAY_S * 1000 if live else 1
        rates = [Rate(10**9, window_ms)]
        self._bucket = SQLiteBucket.init_from_file(rates, db_path=str(path), use_file_lock=True)
        self._live = live
        self.calls = 0
        if live:
            self._fill(path)

    def _fill(self, path: Path) -> None:
        now = time.time_ns() // 1_000_000
        connection = sqlite3.connect(path)
        items = (("keybrake-bench", now - n % 1000) for n in range(self._live))
        connection.executemany("INSERT INTO rate_bucket VALUES (?, ?)", items)
        connection.commit()
        connection.close()

    def admit(self) -> None:
        """Put one item."""
        assert self._bucket.put(self._item("keybrake-bench", time.time_ns() // 1_000_000))
        self.calls += 1

    def settle(self) -> None:
        """Nothing: a rate limiter has nothing to settle."""

    call = admit

    def check(self, calls: int | None = None) -> None:
        """Assert that every item is there."""
        made = self.calls if calls is None else calls
        found = self._bucket.count()
        assert found == made + self._live, (found, made)

    def close(self) -> None:
        """Let go of the file."""
        self._bucket.close()


class FloeGuard:
    """floe-guard: reserve_tool and settle_tool on its SQLite store, floats, one window a day."""

    def __init__(self, path: Path) -> None:
        from floe_guard import BudgetGuard, SqliteStore

        self._guard = BudgetGuard(limit_usd=1e6, window="utc-day", store=SqliteStore(path))
        self.calls = 0

    def call(self) -> None:
        """Reserve a cent and settle it."""
        held = self._guard.reserve_tool(0.01)
        self._guard.settle_tool("payments", 0.01, reserved=held)
        self.calls += 1

    def check(self) -> None:
        """Assert that the total is right, as far as floats are."""
        assert abs(self._guard.spent_usd - self.calls / 100) < 1e-6

    def close(self) -> None:
        """Nothing is kept open."""


class FiGuard:
    """figuard, embedded: authorize and confirm."""

    def __init__(self, path: Path) -> None:
        from figuard import FiGuardClient

        self._client = FiGuardClient(mode="embedded", database=str(path), log=False)
        self._name = self._client.create_budget(user_id="bench", total_limit=1e6, currency="USD")
        self.calls = 0

    def call(self) -> None:
        """Reserve a cent and settle it."""
        allowed = self._client.authorize(budget=self._name, amount=0.01).raise_if_denied()
        self._client.confirm(allowed, 0.01)
        self.calls += 1

    def check(self) -> None:
        """Assert that the total is exact."""
        found = self._client.get_budget(self._name.id)
        assert abs(found.quantity_spent - self.calls / 100) < 1e-6, found

    def close(self) -> None:
        """Nothing of it can be closed."""


class Interlock:
    """interlock-agentgov on SQLite: authorize and capture, hash-chained, one process only."""

    def __init__(self, path: Path) -> None:
        import agentgov

        self._cent = agentgov.money("0.01")
        self._governor = agentgov.BudgetManager.open_sqlite(path)
        self._governor.open_root("bench", agentgov.money("1000000"))
        self.calls = 0

    def call(self) -> None:
        """Reserve a cent and settle it."""
        self._governor.capture(self._governor.authorize("bench", self._cent), self._cent)
        self.calls += 1

    def check(self) -> None:
        """Assert that the total is exact."""
        left = self._governor.available("bench")
        assert left == Decimal(1_000_000) - Decimal(self.calls) / 100, left

    def close(self) -> None:
        """Let go of the file."""
        self._governor.close()


class Tbay:
    """tbay on SQLite: one guarded function whose amounts are summed over a window."""

    def __init__(self, path: Path) -> None:
        from tbay import TbayClient, guarded
        from tbay.policy import Policy

        client = TbayClient(f"sqlite:///{path}")
        client.policies["bench"] = Policy(
            name="bench",
            idempotent=False,
            singleflight=False,
            budget_arg="amount",
            budget_max=1e6,
            budget_window=float(DAY_S),
        )
        self._path = path
        self._pay = guarded(client, policy="bench")(_pay)
        self.calls = 0

    def call(self) -> None:
        """Reserve a cent, call, settle."""
        self._pay(amount=0.01)
        self.calls += 1

    def check(self) -> None:
        """Assert that every call is on record."""
        connection = sqlite3.connect(self._path)
        found = connection.execute("SELECT count(*) FROM executions").fetchone()[0]
        connection.close()
        assert found == self.calls, found

    def close(self) -> None:
        """Nothing is kept open."""


def _pay(amount: float) -> float:
    return amount


# What reserves and settles: the name it is installed by, and what opens it.
MONEY: dict[str, Callable[[Path], Any]] = {
    "floe-guard": FloeGuard,
    "figuard": FiGuard,
    "interlock-agentgov": Interlock,
    "tbay": Tbay,
}
