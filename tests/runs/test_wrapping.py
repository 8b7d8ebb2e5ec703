"""Does a function of any kind stay what it is while it runs inside a frame?"""

import asyncio
import contextvars
import copy
import functools
import inspect
import pickle
import typing

import pytest

from keybrake.guard.caller import UnguardedFrame, active
from keybrake.runs import wrapping

FRAME = UnguardedFrame("a mark", None)


def inside() -> bool:
    """Return whether the frame is around."""
    return active.get() is FRAME


def framed(function):
    """Decorate with a stay that neither opens nor closes anything."""
    return wrapping.around(function, lambda: wrapping.Here(FRAME))


@framed
def plain(amount: int, *rest: str, currency: str = "usd", **more: float) -> tuple[bool, int]:
    """Say where this runs."""
    return inside(), amount


@framed
async def coroutine(amount: int, currency: str = "usd") -> bool:
    """Say where this runs, on both sides of an await."""
    before = inside()
    await asyncio.sleep(0)
    return before and inside()


@framed
def generator(amount: int) -> typing.Iterator[bool]:
    """Say where each step runs."""
    yield inside()
    yield inside()


@framed
async def async_generator(amount: int) -> typing.AsyncIterator[bool]:
    """Say where each step runs, on both sides of an await."""
    yield inside()
    await asyncio.sleep(0)
    yield inside()


KINDS = [plain, coroutine, generator, async_generator]


@pytest.mark.parametrize("function", KINDS)
def test_a_function_looks_as_before(function):
    """Name, docstring, signature, hints, source and kind are those of the bare function."""
    bare = function.__wrapped__

    assert inspect.isfunction(function)
    assert inspect.signature(function) == inspect.signature(bare)
    assert typing.get_type_hints(function) == typing.get_type_hints(bare)
    assert inspect.getsource(function) == inspect.getsource(bare)
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        assert getattr(function, name) == getattr(bare, name)
    for ask in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert ask(function) is ask(bare)


@pytest.mark.parametrize("function", KINDS)
def test_a_function_copies_by_name(function):
    """``copy`` and ``deepcopy`` return the function itself, as they do for any function."""
    assert copy.copy(function) is function
    assert copy.deepcopy(function) is function
    assert copy.deepcopy({"tool": [function]}) == {"tool": [function]}


@pytest.mark.parametrize("function", KINDS)
def test_a_function_pickles_by_name(function):
    """Its pickle is its name, so it arrives guarded."""
    assert pickle.loads(pickle.dumps(function)) is function


def test_attributes_go_along():
    """What was set on the function is on the wrapped one."""

    def bare() -> None: ...

    bare.schema = {"type": "object"}

    assert framed(bare).schema is bare.schema


def test_a_plain_function_runs_inside_and_leaves_nothing_around():
    """Arguments and result go through untouched."""
    assert plain(5, "a", currency="eur", more=1.0) == (True, 5)
    assert active.get() is None


def test_a_coroutine_runs_inside_and_its_caller_does_not():
    """The frame is there on both sides of an await, and nowhere else."""

    async def caller() -> tuple[bool, bool]:
        task = asyncio.create_task(coroutine(1))
        await asyncio.sleep(0)
        return inside(), await task

    assert asyncio.run(caller()) == (False, True)


def test_a_generator_is_inside_only_while_its_own_code_runs():
    """Between two items its consumer runs, without the frame."""
    for was_inside in generator(1):
        assert was_inside
        assert not inside()
    assert active.get() is None


def test_an_async_generator_is_inside_only_while_its_own_code_runs():
    """The same with awaits between its items."""

    async def consume() -> list[tuple[bool, bool]]:
        return [(item, inside()) async for item in async_generator(1)]

    assert asyncio.run(consume()) == [(True, False), (True, False)]


def test_an_error_leaves_nothing_around():
    """Whatever a function raises, its caller is outside again."""

    @framed
    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert active.get() is None


def test_a_generator_takes_what_is_sent_and_thrown():
    """``send``, ``throw``, ``close`` and the return value work as on a bare generator."""
    log = []

    @framed
    def talk():
        try:
            log.append((yield 1))
            try:
                yield 2
            except KeyError:
                log.append(inside())
            yield 3
        finally:
            log.append(("end", inside()))
        return "done"

    talking = talk()
    assert next(talking) == 1
    assert talking.send("hello") == 2
    assert talking.throw(KeyError()) == 3
    with pytest.raises(StopIteration) as end:
        next(talking)
    assert end.value.value == "done"
    broken_off = talk()
    next(broken_off)
    broken_off.close()

    assert log == ["hello", True, ("end", True), ("end", True)]
    assert active.get() is None


def test_an_async_generator_takes_what_is_sent_and_thrown():
    """``asend``, ``athrow`` and ``aclose`` work as on a bare async generator."""
    log = []

    @framed
    async def talk():
        try:
            log.append((yield 1))
            try:
                yield 2
            except KeyError:
                log.append(inside())
            yield 3
        finally:
            log.append(("end", inside()))

    async def converse() -> None:
        talking = talk()
        assert await anext(talking) == 1
        assert await talking.asend("hello") == 2
        assert await talking.athrow(KeyError()) == 3
        await talking.aclose()
        assert not inside()

    asyncio.run(converse())
    assert log == ["hello", True, ("end", True)]


def test_a_lambda_that_makes_a_coroutine_guards_the_coroutine():
    """Making a coroutine is not running it: the frame is there when it is awaited."""

    async def work() -> bool:
        return inside()

    async def caller() -> bool:
        made = framed(lambda awaited: awaited())(work)
        assert not inside()
        return await made

    assert asyncio.run(caller()) is True


def test_a_partial_of_a_coroutine_function_is_one():
    """A partial is awaited inside, and asked for its kind it says so."""
    wrapped = framed(functools.partial(coroutine.__wrapped__, 1))

    assert inspect.iscoroutinefunction(wrapped)
    assert asyncio.run(wrapped()) is True


def test_closing_from_another_context_is_quiet():
    """An event loop that dies closes its coroutines from outside; that raises nothing."""
    made = coroutine(1)
    contextvars.copy_context().run(made.send, None)

    contextvars.copy_context().run(made.close)
