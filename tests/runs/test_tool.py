"""A tool has its own scope, whatever kind of function it is, and still works as that function."""

import asyncio
import copy
import functools
import inspect
import os
import sqlite3
import subprocess
import sys
import typing
from contextvars import Context
from decimal import Decimal

import pytest
import stripe

import keybrake
from keybrake import Limit, PolicyError
from tests._each import each


def pay(dollars: int = 1) -> str:
    """Charge through the real SDK."""
    return stripe.PaymentIntent.create(amount=dollars * 100, currency="usd").id


def tools(run: keybrake.Run) -> dict[str, tuple[Decimal, int, int]]:
    """Return spent, calls and refused of each tool of a run."""
    path = keybrake.open_ledger().url.removeprefix("sqlite:///")
    query = "SELECT tool, spent_usd, calls, refused FROM spend_by_tool WHERE run_id = ?"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {tool: tuple(rest) for tool, *rest in connection.execute(query, (run.id,))}
    finally:
        connection.close()


@keybrake.tool
def plain(dollars: int = 1) -> str:
    """Pay at once."""
    return pay(dollars)


@keybrake.tool(name="slow", cap=50)
async def slow(dollars: int = 1) -> str:
    """Pay after a while."""
    await asyncio.sleep(0)
    return pay(dollars)


@keybrake.tool
def stream(times: int) -> typing.Iterator[str]:
    """Pay before each item."""
    for _ in range(times):
        yield pay()


@keybrake.tool
async def slow_stream(times: int) -> typing.AsyncIterator[str]:
    """Pay before each item, after a while."""
    for _ in range(times):
        await asyncio.sleep(0)
        yield pay()


class Box:
    """Hold tools of every kind."""

    @keybrake.tool
    def method(self, dollars: int) -> str:
        """Pay from an instance."""
        return pay(dollars)

    @classmethod
    @keybrake.tool
    def below(cls, dollars: int) -> str:
        """Pay from the class."""
        return pay(dollars)

    @keybrake.tool
    @classmethod
    def above(cls, dollars: int) -> str:
        """Pay from the class, decorated the other way round."""
        return pay(dollars)

    @staticmethod
    @keybrake.tool
    def static_below(dollars: int) -> str:
        """Pay from nowhere."""
        return pay(dollars)

    @keybrake.tool
    @staticmethod
    def static_above(dollars: int) -> str:
        """Pay from nowhere, decorated the other way round."""
        return pay(dollars)


async def drain(items: typing.AsyncIterator[str]) -> list[str]:
    """Take all items."""
    return [item async for item in items]


WAYS = {
    "plain": lambda: plain(1),
    "slow": lambda: asyncio.run(slow(1)),
    "stream": lambda: list(stream(1)),
    "slow_stream": lambda: asyncio.run(drain(slow_stream(1))),
    "method": lambda: Box().method(1),
    "below": lambda: Box.below(1),
    "above": lambda: Box.above(1),
    "static_below": lambda: Box.static_below(1),
    "static_above": lambda: Box().static_above(1),
    "<lambda>": lambda: keybrake.tool(lambda dollars: pay(2 * dollars // 2))(1),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_call_is_charged_to_the_tool_and_the_run(ledger_url, fake, name):
    """Every kind of function is a scope, and the call log names the tool."""
    with keybrake.run("agent", cap=9) as run:
        WAYS[name]()
        pay(1)

    assert (run.spent, run.calls) == (2, 2)
    assert tools(run) == {name: (1, 1, 0)}


@pytest.mark.parametrize("name", WAYS)
def test_a_tool_without_a_run_is_refused(ledger_url, fake, name):
    """Without a run every vendor call of a tool is refused, whatever kind of function it is."""
    with pytest.raises(keybrake.NoActiveRun, match=f"in the tool '{name}'"):
        WAYS[name]()

    assert not fake.journal.entries


MODULE_LEVEL = [plain, slow, stream, slow_stream]


@pytest.mark.parametrize(
    "function", [*MODULE_LEVEL, Box.method, Box.static_below, Box.static_above]
)
def test_a_tool_keeps_the_signature_of_its_function(function):
    """Signature, type hints, docstring, names and kind stay, so that frameworks can read them."""
    bare = function.__wrapped__

    assert inspect.signature(function) == inspect.signature(bare)
    assert typing.get_type_hints(function) == typing.get_type_hints(bare)
    assert inspect.getdoc(function) == inspect.getdoc(bare)
    assert function.__qualname__ == bare.__qualname__
    for ask in (
        inspect.isfunction,
        inspect.iscoroutinefunction,
        asyncio.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert ask(function) is ask(bare)


def test_class_methods_keep_their_signature():
    """``cls`` is hidden, and both orders of the decorators look the same."""
    assert str(inspect.signature(Box.below)) == "(dollars: int) -> str"
    assert str(inspect.signature(Box.above)) == "(dollars: int) -> str"
    assert inspect.ismethod(Box.above)


@pytest.mark.parametrize("function", MODULE_LEVEL)
def test_a_tool_copies(function):
    """``copy`` and ``deepcopy`` return the function, alone and inside other objects."""
    assert copy.copy(function) is function
    assert copy.deepcopy({"tools": [function]})["tools"][0] is function


def test_a_tool_pickles(tmp_path):
    """A module-level tool comes back from a pickle guarded, here and in another process."""
    (tmp_path / "toolbox.py").write_text(
        "import keybrake\n@keybrake.tool(max_calls=1)\ndef pay(amount: int) -> int:\n    return amount\n"
    )
    code = (
        "import pickle, toolbox, sys\n"
        "back = pickle.loads(pickle.dumps(toolbox.pay))\n"
        "assert back is toolbox.pay\n"
        "print(back(5), pickle.dumps(back).hex())\n"
    )
    run = functools.partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    number, pickled = run([sys.executable, "-c", code]).stdout.split()
    again = f"import pickle; print(pickle.loads(bytes.fromhex('{pickled}'))(7))"

    assert number == "5"
    assert run([sys.executable, "-c", again]).stdout.split() == ["7"]


# Limits


def test_a_tools_limit_lasts_for_the_whole_run(ledger_url, fake):
    """Calls in different turns of an agent count together; another run begins anew."""

    @keybrake.tool(max_calls=2)
    def limited() -> None:
        pay()

    for _ in range(2):
        with keybrake.run("agent", cap=9) as run:
            limited()
            asyncio.run(asyncio.to_thread(limited))
            with pytest.raises(keybrake.CallLimitReached, match="tool 'limited'") as refused:
                limited()
            pay()
        assert refused.value.scope == "tool limited max_calls"
        assert run.calls == 3


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        ({"cap": "1.50"}, keybrake.CapExceeded),
        ({"max_amount": "0.50"}, keybrake.AmountTooLarge),
        ({"allow": ["stripe.refunds.create"]}, keybrake.EndpointNotAllowed),
        ({"limits": {"stripe.*.create": Limit(cap="1.50", per="day")}}, keybrake.CapExceeded),
        ({"limits": {"stripe.*.create": {"max_calls": 1}}}, keybrake.CallLimitReached),
    ],
    ids=str,
)
def test_a_tool_can_be_limited_in_every_way(ledger_url, fake, policy, refusal):
    """Every limit of a run also works for a tool, and binds only the tool."""
    limited = keybrake.tool(**policy)(pay)
    with keybrake.run("agent", cap=9) as run:
        refused = None
        while refused is None:
            try:
                limited()
            except refusal as error:
                refused = error
        pay()

    assert "tool 'pay'" in str(refused)
    assert (run.refused, run.calls <= 2) == (1, True)


def test_a_tools_limit_holds_across_processes(ledger_url, fake):
    """Processes that join by key share the tool's count."""
    code = (
        "import stripe, keybrake\n"
        f"stripe.api_base = {fake.url!r}; stripe.api_key = 'sk_test_child'\n"
        "@keybrake.tool(max_calls=2)\n"
        "def buy(): stripe.PaymentIntent.create(amount=100, currency='usd')\n"
        "try: buy(); print('went')\n"
        "except keybrake.CallLimitReached as refused: print(refused.scope)\n"
    )
    with keybrake.run("agent", cap=9) as run:
        env = {**os.environ, "KEYBRAKE_VAULT_KEY": str(run.key)}
        said = [
            subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
            ).stdout.strip()
            for _ in range(3)
        ]

    assert said == ["went", "went", "tool buy max_calls"]
    assert tools(run) == {"buy": (2, 2, 1)}


def test_tools_in_tools_bind_together(ledger_url, fake):
    """A tool that calls another is charged with it; the row names the inner one."""

    @keybrake.tool(cap=1)
    def outer() -> None:
        inner()

    @keybrake.tool(cap=9)
    def inner() -> None:
        pay()

    with keybrake.run("agent", cap=9) as run:
        outer()
        with pytest.raises(keybrake.CapExceeded, match="tool 'outer'"):
            outer()
        inner()

    assert tools(run) == {"inner": (2, 2, 1), "outer": (1, 1, 1)}


def test_a_tool_that_calls_itself_is_counted_once(ledger_url, fake):
    """Recursion is one scope, however deep."""

    @keybrake.tool(cap=1)
    def deep(levels: int) -> None:
        return deep(levels - 1) if levels else pay()

    with keybrake.run("agent", cap=9) as run:
        deep(5)

    assert tools(run) == {"deep": (1, 1, 0)}


def test_two_tools_with_one_name_and_other_limits_are_refused(ledger_url, fake):
    """Their counts would mix, so the error says how to give them different names."""
    one = keybrake.tool(name="pay", max_calls=1)(pay)
    other = keybrake.tool(name="pay", max_calls=100)(pay)
    with keybrake.run("agent", cap=9):
        one()
        with pytest.raises(PolicyError, match=r"two tools are named 'pay'.*@tool\(name="):
            other()
    with keybrake.run("agent", cap=9):
        other()

    assert len(fake.journal.entries) == 2


def test_two_tools_with_one_name_and_the_same_limits_are_one(ledger_url, fake):
    """A tool that is created twice, as in a class per request, counts together."""
    with keybrake.run("agent", cap=9):
        keybrake.tool(name="pay", max_calls=1)(pay)()
        with pytest.raises(keybrake.CallLimitReached):
            keybrake.tool(name="pay", max_calls=1)(pay)()


def test_a_run_inside_a_tool_counts_against_the_tool(ledger_url, fake):
    """The row of a child run's call does not name the tool, but the call counts against it."""

    @keybrake.tool(max_calls=1)
    def delegate() -> None:
        with keybrake.run("child", cap=9):
            pay()
            with pytest.raises(keybrake.CallLimitReached, match="tool 'delegate'"):
                pay()

    with keybrake.run("agent", cap=9) as run:
        delegate()

    assert tools(run) == {"delegate": (1, 1, 1)}


@pytest.mark.parametrize("inside", ["child", "joined"])
def test_every_tool_around_a_run_binds_it(ledger_url, fake, inside):
    """A run opened or joined in a tool that another tool called is charged to both tools."""
    key = keybrake.issue_vault_key("joined", cap=9)

    @keybrake.tool(cap=1)
    def outer() -> None:
        inner()

    @keybrake.tool
    def inner() -> None:
        with keybrake.run("child", cap=9) if inside == "child" else keybrake.run(key=key):
            pay()

    with keybrake.run("agent", cap=9) as run:
        outer()
        with pytest.raises(keybrake.CapExceeded, match="tool 'outer'"):
            outer()

    assert tools(run) == {"inner": (1, 1, 1), "outer": (1, 1, 1)}


# Where it may stand


class Framework:
    """Stands in for the object that an agent framework's decorator returns."""

    def __init__(self, function: typing.Callable[..., object]) -> None:
        self.function = function
        self.name = function.__name__

    def __call__(self, *args: object) -> object:
        """Call the tool, as a framework would."""
        return self.function(*args)


def test_a_frameworks_decorator_goes_above(ledger_url, fake):
    """Below the framework's decorator the tool guards its function."""
    framework = Framework(keybrake.tool(max_calls=0)(pay))
    with keybrake.run("agent", cap=9), pytest.raises(keybrake.CallLimitReached):
        framework(1)


@each(
    "thing",
    [Framework(pay), Framework, functools.partial(pay, 1), functools.lru_cache(pay), property(pay), 5, None, "pay", print],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
def test_decorating_anything_but_a_function_is_a_type_error(thing):
    """The error names the type of the object, and where to put the decorator."""
    with pytest.raises(TypeError) as refused:
        keybrake.tool(max_calls=1)(thing)
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"

    assert kind in str(refused.value)
    assert "directly on the function, below the framework's decorator" in str(refused.value)


def test_decorating_a_partial_is_a_type_error(ledger_url, fake):
    """The error says to decorate the function first, and then create the partial."""
    with pytest.raises(TypeError, match=r"functools.partial"):
        keybrake.tool(functools.partial(pay, 1))
    with keybrake.run("agent", cap=9) as run:
        functools.partial(keybrake.tool(pay), 1)()

    assert tools(run) == {"pay": (1, 1, 0)}


@pytest.mark.parametrize(
    "bad",
    [
        {"cap": True},
        {"cap": -1},
        {"max_calls": 1.5},
        {"max_amount": "٣"},
        {"allow": "stripe.refunds.create"},
        {"allow": ["stripe.refund.create"]},
        {"limits": {"stripe.refunds.create": 5}},
    ],
    ids=str,
)
def test_an_invalid_tool_is_refused_at_its_definition(bad):
    """An invalid argument is an error at import, not when the agent calls the tool."""
    with pytest.raises(PolicyError, match=next(iter(bad)) + "|endpoint"):
        keybrake.tool(**bad)


@pytest.mark.parametrize("name", ["", "a" * 201, 5, "\ud800"], ids=ascii)
def test_a_bad_name_is_refused(name):
    """A name is a text of 1 to 200 characters, and the error calls it a name."""
    with pytest.raises(PolicyError, match="name="):
        keybrake.tool(name=name)(pay)


def test_unguarded_works_inside_a_tool_only(ledger_url, fake):
    """``unguarded`` inside a tool lets its block go, and around a tool without a run it does not."""

    @keybrake.tool
    def open_hearted() -> None:
        with keybrake.unguarded("paid by hand before"):
            pay()

    open_hearted()
    with keybrake.unguarded("a reason"), pytest.raises(keybrake.NoActiveRun):
        plain()

    assert len(fake.journal.entries) == 1


def test_a_tool_carries_no_run_between_calls(ledger_url, fake):
    """A tool object used in two runs is charged to each of them."""

    def once() -> Decimal:
        with keybrake.run("agent", cap=9) as run:
            plain(2)
        return run.spent

    assert (Context().run(once), Context().run(once)) == (2, 2)
