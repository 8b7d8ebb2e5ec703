"""How every public signature looks in use: type-checked by the tests, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import keybrake

version: str = keybrake.__version__


# Runs


def open_runs(url: str, path: Path) -> None:
    """Open runs in every way there is."""
    with keybrake.run("agent", cap=200) as run:
        assert_type(run, keybrake.Run)
        assert_type(run.id, str)
        assert_type(run.key, str)
        assert_type(run.label, str)
        assert_type(run.state, str)
        assert_type(run.spent, Decimal)
        assert_type(run.reserved, Decimal)
        assert_type(run.remaining, Decimal | None)
        assert_type(run.calls, int)
        assert_type(run.refused, int)
        run.pause()
        run.resume()
        run.revoke()
        results: list[str] = [finding.result for finding in run.reconcile()]
        assert results == []
    keybrake.run("agent", cap=None, ledger=url)
    keybrake.run("agent", cap="0.50", ledger=path)
    keybrake.run("agent", cap=Decimal("0.50"), ledger=keybrake.open_ledger(url))
    keybrake.run("agent", cap=0.5, expires_in=timedelta(hours=2), mode="report")
    keybrake.run("agent", policy="refund-agent")
    keybrake.run("agent", policy=keybrake.Policy(cap=1), cap=2)
    keybrake.run(key=run.key)
    keybrake.run(
        "agent",
        cap=1,
        daily_usd_cap=2,
        max_calls=3,
        max_amount="4",
        allow=["stripe.refunds.create"],
        limits={
            "stripe.refunds.create": keybrake.Limit(cap=50, max_calls=1, per="run"),
            "stripe.charges.*": {"max_calls": 5, "per": "90m"},
        },
        expires_in=None,
    )


async def open_an_async_run() -> None:
    """Open a run in a task."""
    async with keybrake.run("agent", cap=200) as run:
        assert_type(run, keybrake.Run)


def a_block_ends_as_python_says() -> int:
    """A run swallows no exception, so the type checker sees that a value is returned."""
    with keybrake.run("agent", cap=1):
        return 1


def an_unguarded_block_ends_so_too() -> int:
    """So does an unguarded block."""
    with keybrake.unguarded("a reason"):
        return 1


# Decorators keep types


@keybrake.run("agent", cap=1)
def plain(amount: int, *, currency: str = "usd") -> str:
    """Be a plain function."""
    return f"{amount} {currency}"


@keybrake.tool
def tool(amount: int, *, currency: str = "usd") -> str:
    """Be a tool."""
    return f"{amount} {currency}"


@keybrake.tool(
    name="pay",
    cap=50,
    max_calls=1,
    max_amount=Decimal(5),
    allow=["stripe.refunds.create"],
    limits={"stripe.refunds.create": keybrake.Limit(cap=5)},
)
async def async_tool(amount: int) -> Decimal:
    """Be an async tool."""
    return Decimal(amount)


@keybrake.tool
def generator(amount: int) -> Iterator[int]:
    """Be a generator."""
    yield amount


@keybrake.tool()
async def async_generator(amount: int) -> AsyncIterator[int]:
    """Be an async generator."""
    yield amount


class Toolbox:
    """Hold tools of every kind."""

    @keybrake.tool
    def method(self, amount: int) -> int:
        """Be a method."""
        return amount

    @classmethod
    @keybrake.tool(cap=1)
    def class_method(cls, amount: int) -> int:
        """Be a method of the class."""
        return amount

    @staticmethod
    @keybrake.tool
    def static_method(amount: int) -> int:
        """Be a static method."""
        return amount


async def the_types_are_those_of_the_functions() -> None:
    """What a decorated function takes and returns is what it took and returned before."""
    assert_type(plain(1, currency="eur"), str)
    assert_type(tool(1), str)
    assert_type(await async_tool(1), Decimal)
    assert_type(next(iter(generator(1))), int)
    async for item in async_generator(1):
        assert_type(item, int)
    assert_type(Toolbox().method(1), int)
    assert_type(Toolbox.class_method(1), int)
    assert_type(Toolbox.static_method(1), int)
    tool("1")  # type: ignore[arg-type]
    plain()  # type: ignore[call-arg]


# Keys, verbs and the rest


def issue_keys() -> None:
    """Issue keys and steer their runs."""
    key = keybrake.issue_vault_key("caller-7", daily_usd_cap=200.0, expires_in="2h")
    assert_type(key, keybrake.VaultKey)
    assert_type(key.run_id, str)
    as_text: str = key
    keybrake.issue_vault_key(
        "caller-7",
        cap=1,
        max_calls=2,
        max_amount=3,
        allow=[],
        limits={},
        expires_in=timedelta(hours=1),
        label="agent",
        policy=None,
        ledger=None,
    )
    keybrake.pause(as_text)
    keybrake.resume(key.run_id)
    keybrake.revoke(keybrake.run("agent", cap=1))


def find_and_carry() -> None:
    """Find the run around here, and carry it elsewhere."""
    assert_type(keybrake.current_run(), keybrake.Run | None)
    bound = keybrake.bind(plain)
    assert_type(bound(1), str)
    run = keybrake.run("agent", cap=1)
    kept: Callable[..., Any] = run.bind(print)
    kept()


def set_up(rates: Mapping[str, str]) -> None:
    """Set options and hook the SDKs."""
    keybrake.configure(
        ledger="sqlite:///ledger.db",
        lock_timeout=5,
        durability="power",
        usd_per=rates,
        margin_bps=200,
        climate_fee_margin_bps=300,
        refunds="net",
        prices={"twilio": {"sms_segment": {"+1": "0.0145"}}},
        ecb=False,
        ecb_max_age_days=45,
        extra_hosts={"stripe": ["http://127.0.0.1:12111"]},
        accounts={"stripe": ["acct_1Abc"]},
        proxies=["http://proxy.example:3128"],
        credentials={"stripe": "env://STRIPE_API_KEY"},
    )
    keybrake.install()
    keybrake.uninstall()
    assert [one.vendor for one in keybrake.status()] == ["stripe", "resend", "twilio"]


def handle_refusals() -> Decimal | None:
    """Catch refusals from the particular to the general."""
    try:
        plain(1)
    except (
        keybrake.CapExceeded,
        keybrake.CallLimitReached,
        keybrake.AmountTooLarge,
        keybrake.EndpointNotAllowed,
        keybrake.UnknownCost,
        keybrake.HostNotAllowed,
    ) as refusal:
        assert_type(refusal.reason, str)
        assert_type(refusal.hint, str | None)
        assert_type(refusal.retryable, bool)
        return refusal.remaining
    except keybrake.CallStopped as stopped:
        assert_type(stopped.reason, str)
        return None
    except (
        keybrake.RunRevoked,
        keybrake.RunPaused,
        keybrake.RunExpired,
        keybrake.RunClosed,
        keybrake.NoActiveRun,
    ) as refusal:
        assert_type(refusal.run_id, str | None)
    except (keybrake.LedgerUnavailable, keybrake.CredentialUnavailable) as refusal:
        assert_type(refusal, keybrake.LedgerUnavailable | keybrake.CredentialUnavailable)
    except keybrake.CallRefused as refusal:
        assert_type(refusal.fields, dict[str, Any])
    except (keybrake.PolicyError, keybrake.UnsupportedSDK, keybrake.LedgerError):
        pass
    except keybrake.CredentialError:
        pass
    except keybrake.errors.KeybrakeError as error:
        caught: keybrake.KeybrakeError = error
        raise caught from None
    return None
