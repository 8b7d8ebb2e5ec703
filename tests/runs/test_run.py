"""A run guards its block: open, nest, join, stop, leave and read it."""

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from contextvars import Context
from decimal import Decimal
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake import Limit, Policy, PolicyError
from keybrake.model import clock


def pay(dollars: int = 1) -> stripe.PaymentIntent:
    """Charge through the real SDK."""
    return stripe.PaymentIntent.create(amount=dollars * 100, currency="usd")


def rows(columns: str) -> list[tuple[object, ...]]:
    """Return columns of the call log, oldest first."""
    path = keybrake.open_ledger().url.removeprefix("sqlite:///")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(f"SELECT {columns} FROM call_log ORDER BY seq").fetchall()
    finally:
        connection.close()


# In and out


def test_a_run_is_readable_before_inside_and_after_its_block(ledger_url, fake):
    """State, amounts and counts can be read at any time."""
    run = keybrake.run("invoice-agent", cap=200)
    assert (run.state, run.spent, run.reserved, run.remaining) == ("new", 0, 0, 200)
    assert (run.calls, run.refused, run.label) == (0, 0, "invoice-agent")
    with run as inside:
        stripe.PaymentIntent.create(amount=2999, currency="usd")
        assert inside is run
        assert (run.state, run.calls) == ("open", 1)

    assert (run.state, run.spent, run.remaining) == ("closed", Decimal("29.99"), Decimal("170.01"))
    assert (str(run.spent), str(run.remaining), str(run.reserved)) == ("29.99", "170.01", "0.00")
    assert run.id.startswith("run_")


def test_nothing_is_written_before_the_block(unmade_ledger, tmp_path):
    """Creating a run object opens no ledger."""
    keybrake.run("a", cap=1)
    keybrake.run("a", cap=1)(pay)

    assert not (tmp_path / "ledger.db").exists()


def test_a_run_stops_at_its_cap(ledger_url, fake):
    """A call that does not fit is refused before a byte is sent, and is recorded."""
    with keybrake.run("a", cap=5) as run:
        for _ in range(5):
            pay()
        with pytest.raises(keybrake.CapExceeded):
            pay()

    assert fake.journal.total() == 500
    assert len(fake.journal.entries) == 5
    assert (run.calls, run.refused, run.remaining) == (5, 1, 0)
    assert rows("state, reason")[-1] == ("refused", "cap_exceeded")


def test_cap_none_sets_no_cap(ledger_url, fake):
    """``cap=None`` counts and records calls, and refuses no amount."""
    with keybrake.run("a", cap=None) as run:
        pay(5000)

    assert (run.spent, run.remaining) == (5000, None)


def test_a_run_is_entered_once(ledger_url):
    """Each block needs a new run."""
    run = keybrake.run("a", cap=1)
    with run, pytest.raises(PolicyError, match="was entered before; make a new run"), run:
        pass
    with pytest.raises(PolicyError, match="was entered before"), run:
        pass

    assert run.state == "closed"


def test_an_error_in_the_block_is_raised_and_closes_the_run(ledger_url, fake):
    """A run swallows no exception, and an exception leaves no run open."""
    run = keybrake.run("a", cap=1)
    with pytest.raises(KeyError), run:
        raise KeyError

    assert (run.state, keybrake.current_run()) == ("closed", None)


def test_an_async_run_works_like_a_plain_one(ledger_url, fake):
    """``async with`` opens, guards and closes."""

    async def work() -> keybrake.Run:
        async with keybrake.run("a", cap=1) as run:
            assert keybrake.current_run() is run
            pay()
            with pytest.raises(keybrake.CapExceeded):
                pay()
        assert keybrake.current_run() is None
        return run

    run = asyncio.run(work())
    assert (run.state, run.spent, run.refused) == ("closed", 1, 1)


def test_a_cancelled_block_closes_its_run(ledger_url):
    """Cancelling a task inside ``async with`` leaves no run open."""

    async def work() -> keybrake.Run:
        run = keybrake.run("a", cap=1)
        inside = asyncio.Event()

        async def stay() -> None:
            async with run:
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(stay())
        await inside.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return run

    assert asyncio.run(work()).state == "closed"


def test_a_vendor_error_is_raised_unchanged(ledger_url, fake):
    """A declined card is Stripe's error, and costs nothing."""
    with keybrake.run("a", cap=5) as run, pytest.raises(stripe.CardError):
        stripe.PaymentIntent.create(
            amount=100, currency="usd", confirm=True, payment_method="pm_card_chargeDeclined"
        )

    assert (run.spent, run.reserved, run.calls) == (0, 0, 1)


# Decorators


def test_a_decorated_function_opens_a_run_per_call(ledger_url, fake):
    """Every call has a new run under the same policy."""

    @keybrake.run("job", cap=1)
    def job() -> keybrake.Run | None:
        pay()
        return keybrake.current_run()

    one, other = job(), job()

    assert one.id != other.id
    assert (one.state, other.state, one.spent, other.spent) == ("closed", "closed", 1, 1)
    assert keybrake.current_run() is None


def test_a_decorated_async_function_opens_a_run_per_call(ledger_url, fake):
    """Concurrent calls do not see each other's run."""

    @keybrake.run("job", cap=2)
    async def job() -> keybrake.Run | None:
        pay()
        await asyncio.sleep(0)
        pay()
        return keybrake.current_run()

    async def both() -> list[keybrake.Run | None]:
        return await asyncio.gather(job(), job())

    one, other = asyncio.run(both())
    assert one is not other
    assert (one.spent, other.spent) == (2, 2)


def test_a_decorated_generator_guards_its_own_code_only(ledger_url, fake):
    """Between two items its consumer runs, and is not in the generator's run."""

    @keybrake.run("job", cap=2)
    def job():
        pay()
        yield keybrake.current_run()
        pay()

    seen = []
    with keybrake.run("consumer", cap=9) as outer:
        for run in job():
            seen.append(run)
            assert keybrake.current_run() is outer

    assert (seen[0].state, seen[0].spent, outer.spent) == ("closed", 2, 2)


def test_a_generator_that_ends_in_another_run_leaves_that_run_alone(ledger_url, fake):
    """The end of a generator does not restore the run that was active at its first step."""

    @keybrake.run("job", cap=2)
    def job():
        yield 1

    def consume() -> None:
        items = job()
        next(items)
        with keybrake.run("b", cap=1) as run:
            assert list(items) == []
            assert keybrake.current_run() is run
            pay()

    Context().run(consume)


def test_a_generator_does_not_reactivate_a_closed_run(ledger_url, fake):
    """A generator that outlives its run does not make that run the active one."""

    @keybrake.run("job", cap=2)
    def job():
        yield 1

    def consume() -> keybrake.Run | None:
        with keybrake.run("a", cap=1):
            items = job()
            next(items)
        list(items)
        return keybrake.current_run()

    assert Context().run(consume) is None


def test_a_decorated_async_generator_guards_its_own_code_only(ledger_url, fake):
    """The run covers the steps of the generator, not its consumer, and closes with it."""

    @keybrake.run("job", cap=2)
    async def job():
        pay()
        yield keybrake.current_run()
        pay()

    async def consume() -> keybrake.Run | None:
        runs = [(run, keybrake.current_run()) async for run in job()]
        assert runs[0][1] is None
        return runs[0][0]

    run = asyncio.run(consume())
    assert (run.state, run.spent) == ("closed", 2)


@pytest.mark.parametrize("how", ["close", "throw"])
def test_an_aborted_generator_closes_its_run(ledger_url, how):
    """A generator that is closed, or thrown into, leaves no run open."""

    @keybrake.run("job", cap=2)
    def job():
        yield keybrake.current_run()

    items = job()
    run = next(items)
    if how == "close":
        items.close()
    else:
        with pytest.raises(KeyError):
            items.throw(KeyError())

    assert run.state == "closed"


def test_a_returned_coroutine_runs_inside_the_run(ledger_url, fake):
    """The run of a plain function that returns a coroutine stays open until the coroutine ends."""

    async def work() -> Decimal | None:
        pay()
        return keybrake.current_run().spent

    @keybrake.run("job", cap=1)
    def job():
        return work()

    assert asyncio.run(job()) == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_decorator_can_join_a_key(ledger_url, fake, kind):
    """Each call joins the run of the key, leaves it open, and shares its cap."""
    key = keybrake.issue_vault_key("worker", cap=2)

    def job():
        pay()
        return keybrake.current_run().id

    async def later():
        return job()

    made = keybrake.run(key=key)(job if kind == "plain" else later)

    def once():
        return made() if kind == "plain" else asyncio.run(made())

    assert [once(), once()] == [key.run_id] * 2
    with pytest.raises(keybrake.CapExceeded):
        once()
    (run,) = keybrake.open_ledger(ledger_url).runs()
    assert (run.state(), run.calls, run.refused) == ("open", 2, 1)
    keybrake.revoke(key)
    with pytest.raises(keybrake.RunRevoked):
        once()


# Nested


def test_a_child_is_bound_by_its_parent_and_counts_there(ledger_url, fake):
    """A child is refused when its parent is full, and its cost counts in the parent."""
    with keybrake.run("boss", cap=3) as boss:
        with keybrake.run("child", cap=100) as child:
            pay(2)
            with pytest.raises(keybrake.CapExceeded, match="the parent run 'boss'") as refused:
                pay(2)
        pay(1)

    assert refused.value.run_id == child.id
    assert refused.value.scope == f"parent {boss.id} cap"
    assert (child.spent, child.calls, child.refused) == (2, 1, 1)
    assert (boss.spent, boss.calls, boss.refused) == (3, 2, 1)
    assert rows("run_id") == [(child.id,), (child.id,), (boss.id,)]


@pytest.mark.parametrize(
    ("parent", "refusal"),
    [
        ({"allow": ["stripe.refunds.create"]}, keybrake.EndpointNotAllowed),
        ({"max_calls": 0}, keybrake.CallLimitReached),
        ({"max_amount": "0.50"}, keybrake.AmountTooLarge),
        ({"daily_usd_cap": 0}, keybrake.CapExceeded),
        ({"limits": {"stripe.*.create": Limit(max_calls=0)}}, keybrake.CallLimitReached),
    ],
    ids=str,
)
def test_a_child_can_only_narrow(ledger_url, fake, parent, refusal):
    """No argument of a child allows a call that its parent refuses."""
    with (
        keybrake.run("boss", cap=100, **parent),
        keybrake.run("child", cap=None, max_calls=9, allow=["stripe.payment_intents.create"]),
        pytest.raises(refusal, match="boss"),
    ):
        pay()

    assert not fake.journal.entries


@pytest.mark.parametrize("verb", [keybrake.revoke, keybrake.pause])
def test_stopping_a_parent_stops_its_children(ledger_url, fake, verb):
    """Revoking or pausing a parent refuses the next call of the child, and of a new child."""
    with keybrake.run("boss", cap=9) as boss, keybrake.run("child", cap=9) as child:
        verb(boss)
        with pytest.raises((keybrake.RunRevoked, keybrake.RunPaused), match="boss"):
            pay()
        with pytest.raises((keybrake.RunRevoked, keybrake.RunPaused)), keybrake.run("new", cap=1):
            pass

    assert child.state == "closed"
    assert [run.label for run in keybrake.open_ledger().runs()] == ["boss", "child"]


def test_a_child_under_a_tool_is_bound_by_the_tool(ledger_url, fake):
    """A run opened inside a tool counts against the tool's limits and the run's."""

    @keybrake.tool(cap=2)
    def pay_some() -> None:
        with keybrake.run("child", cap=100):
            pay(2)
            with pytest.raises(keybrake.CapExceeded, match="tool 'pay_some'"):
                pay(1)

    with keybrake.run("boss", cap=100) as boss:
        pay_some()

    assert boss.spent == 2
    assert keybrake.open_ledger().runs()[1].parent_uid == boss.id


def test_a_child_run_cannot_have_another_ledger(ledger_url, tmp_path):
    """A chain of runs is stored in one ledger."""
    with (
        keybrake.run("boss", cap=1),
        pytest.raises(PolicyError, match="leave ledger= out"),
        keybrake.run("child", cap=1, ledger=tmp_path / "other.db"),
    ):
        pass


@pytest.mark.parametrize("kind", ["url", "path", "open"])
def test_a_run_may_name_its_ledger(tmp_path, fake, kind):
    """URL, path and open ledger name the same file, and child runs use it by default."""
    path = tmp_path / "own.db"
    ledger = {"url": f"sqlite:///{path}", "path": path}.get(kind) or keybrake.open_ledger(path)
    with keybrake.run("a", cap=5, ledger=ledger) as run, keybrake.run("child", cap=1):
        pay()
    with keybrake.run(key=run.key, ledger=ledger) as joined:
        assert joined.id == run.id

    assert (run.spent, keybrake.open_ledger(path).url) == (1, f"sqlite:///{path}")


# Joined


def test_joining_needs_no_label_and_no_cap_and_closes_nothing(ledger_url, fake):
    """Calls with the key of an open run are charged to that run."""
    with keybrake.run("owner", cap=2) as owner:
        # An empty context stands for another process: no run is active in it.
        def elsewhere() -> str:
            with keybrake.run(key=owner.key) as joined:
                assert joined.id == owner.id
                assert joined.label == "owner"
                pay()
            return joined.state

        assert Context().run(elsewhere) == "open"
        pay()
        with pytest.raises(keybrake.CapExceeded):
            pay()

    assert owner.spent == 2


def test_the_same_key_twice_is_counted_once(ledger_url, fake):
    """A run that is joined inside itself is one scope."""
    with (
        keybrake.run("owner", cap=2) as owner,
        keybrake.run(key=owner.key),
        keybrake.run(key=owner.key),
    ):
        pay(2)

    assert (owner.spent, owner.calls) == (2, 1)


def test_a_key_joined_inside_another_run_binds_with_it(ledger_url, fake):
    """Both runs must allow a call, and both are charged."""
    key = keybrake.issue_vault_key("key", cap=3)
    with keybrake.run("mine", cap=2) as mine, keybrake.run(key=key) as joined:
        pay(2)
        with pytest.raises(keybrake.CapExceeded, match="parent run 'mine'"):
            pay(1)

    assert (mine.spent, joined.spent) == (2, 2)


@pytest.mark.parametrize(
    "beside",
    [
        {"cap": 1},
        {"policy": Policy(cap=1)},
        {"allow": []},
        {"expires_in": "1h"},
        {"mode": "report"},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_a_key_brings_its_policy(ledger_url, beside):
    """Policy arguments beside a key are refused, because they could not widen its policy."""
    with keybrake.run("owner", cap=1) as owner, pytest.raises(PolicyError, match="key"):
        keybrake.run(key=owner.key, **beside)


def test_a_child_process_joins_by_key(ledger_url, fake):
    """A spawned process with only the key in its environment charges the same run."""
    code = (
        "import stripe, keybrake\n"
        f"stripe.api_base = {fake.url!r}; stripe.api_key = 'sk_test_child'\n"
        "keybrake.install()\n"
        "stripe.PaymentIntent.create(amount=200, currency='usd')\n"
        "try: stripe.PaymentIntent.create(amount=200, currency='usd')\n"
        "except keybrake.CapExceeded as refused: print(refused.run_id)\n"
    )
    with keybrake.run("owner", cap=3) as owner:
        env = {**os.environ, "KEYBRAKE_VAULT_KEY": str(owner.key)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )

    assert ran.stdout.strip() == owner.id
    assert (owner.spent, owner.refused) == (2, 1)


def test_a_forked_child_that_leaves_the_block_closes_nothing(ledger_url, fake):
    """The run of the parent stays open when a fork leaves the with block."""
    with keybrake.run("parent", cap=9) as run:
        pid = os.fork()
        if pid == 0:
            # The child leaves the block as it would in a program, by an exception.
            try:
                run.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert run.state == "open"
        pay()

    assert (run.state, run.spent) == ("closed", 1)


def pay_in_a_fork() -> None:
    """Charge in the run that the fork inherited."""
    pay()


def test_a_forked_child_charges_the_inherited_run(ledger_url, fake):
    """A fork needs no key, because it inherits the active run."""
    with keybrake.run("parent", cap=9) as run:
        child = multiprocessing.get_context("fork").Process(target=pay_in_a_fork)
        child.start()
        child.join()

    assert (child.exitcode, run.spent, run.state) == (0, 1, "closed")


# Stopped


def test_a_call_after_the_block_is_refused(ledger_url, fake):
    """A function that is bound to a closed run gets RunClosed."""
    with keybrake.run("a", cap=9) as run:
        late = run.bind(pay)
    with pytest.raises(keybrake.RunClosed, match="was closed at"):
        late()

    assert not fake.journal.entries
    assert (run.refused, rows("state, reason")) == (1, [("refused", "run_closed")])


def test_a_run_expires(ledger_url, fake, monkeypatch):
    """After its expiry the next call is refused, and the state is expired."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    with keybrake.run("a", cap=9, expires_in="30s") as run:
        now += 30 * clock.SECOND - 1
        pay()
        now += 1
        assert run.state == "expired"
        with pytest.raises(keybrake.RunExpired, match="expired at"):
            pay()

    assert run.spent == 1


@pytest.mark.parametrize("named_by", ["object", "id", "key"])
def test_a_run_is_paused_resumed_and_revoked_by_any_name(ledger_url, fake, named_by):
    """The object, the id and the key mean the same run."""
    with keybrake.run("a", cap=9) as run:
        name = {"object": run, "id": run.id, "key": run.key}[named_by]
        keybrake.pause(name)
        assert run.state == "paused"
        with pytest.raises(keybrake.RunPaused, match="keybrake resume"):
            pay()
        keybrake.pause(name)
        keybrake.resume(name)
        keybrake.resume(name)
        pay()
        keybrake.revoke(name)
        keybrake.revoke(name)
        assert run.state == "revoked"
        with pytest.raises(keybrake.RunRevoked, match="stays revoked"):
            pay()
        for verb in (keybrake.resume, keybrake.pause):
            with pytest.raises(keybrake.LedgerError, match="is revoked and cannot be"):
                verb(name)

    assert (run.state, run.spent) == ("revoked", 1)


def test_a_run_has_methods_to_stop_it(ledger_url, fake):
    """``run.pause()``, ``run.resume()`` and ``run.revoke()`` work like the functions."""
    with keybrake.run("a", cap=9) as run:
        run.pause()
        assert run.state == "paused"
        run.resume()
        assert run.state == "open"
        run.revoke()
        assert run.state == "revoked"


def test_revoking_one_run_leaves_others_alone(ledger_url, fake):
    """Only the named run is revoked."""
    other = keybrake.issue_vault_key("other", cap=1)
    with keybrake.run("a", cap=9):
        keybrake.revoke(other)
        pay()


def test_a_unique_label_names_a_run(ledger_url):
    """Ended runs count only if no other has the label, and an ambiguous label is an error."""
    with keybrake.run("refunds", cap=9) as ended:
        pass
    first = keybrake.issue_vault_key("refunds", cap=1)
    keybrake.pause("refunds")
    keybrake.resume("refunds")
    second = keybrake.issue_vault_key("refunds", cap=1)
    with pytest.raises(keybrake.LedgerError, match="is the label of 3 runs, such as run_") as told:
        keybrake.revoke("refunds")
    assert first.run_id in str(told.value)
    assert second.run_id in str(told.value)
    assert ended.id not in str(told.value)
    keybrake.revoke(first)
    keybrake.revoke("refunds")
    alone = keybrake.issue_vault_key("alone", cap=1)
    keybrake.revoke("alone")
    keybrake.revoke("alone")

    ledger = keybrake.open_ledger(ledger_url)
    states = {run.uid: run.state() for run in ledger.runs()}
    assert states == {
        ended.id: "closed",
        first.run_id: "revoked",
        second.run_id: "revoked",
        alone.run_id: "revoked",
    }


def test_an_unknown_run_is_an_error(ledger_url):
    """A misspelt id is an error, so that a person does not believe that the run was stopped."""
    for verb in (keybrake.revoke, keybrake.pause, keybrake.resume):
        with pytest.raises(keybrake.LedgerError, match="there is no run 'run_nobody'"):
            verb("run_nobody")
        with pytest.raises(keybrake.LedgerError):
            verb("")
        with pytest.raises(PolicyError, match="neither a run nor an id, a label or a vault key"):
            verb(5)
    with pytest.raises(keybrake.LedgerError, match="has not been entered"):
        keybrake.revoke(keybrake.run("new", cap=1))


def test_the_id_of_a_tool_scope_is_refused(ledger_url, fake):
    """Revoking a tool's scope would have no effect, so it is an error."""
    with keybrake.run("a", cap=9) as run:
        keybrake.tool(pay)()
        with pytest.raises(keybrake.LedgerError):
            keybrake.revoke(f"{run.id}:pay")


def test_a_closed_run_can_be_revoked_but_not_paused(ledger_url):
    """Revoking marks a closed run as ended for good, while pausing it has no meaning."""
    with keybrake.run("a", cap=9) as run:
        pass
    with pytest.raises(keybrake.LedgerError, match="is closed and cannot be paused"):
        run.pause()
    run.revoke()

    assert run.state == "revoked"


# Report mode


def test_report_mode_sends_and_records(ledger_url, fake):
    """A call that the policy would refuse is sent, and its row has the reason."""
    with keybrake.run("a", cap=1, mode="report") as run:
        pay(1)
        pay(5)
        with pytest.raises(stripe.InvalidRequestError):  # the vendor knows no such path either
            stripe.StripeClient("sk_test_fake", base_addresses={"api": fake.url}).raw_request(
                "post", "/v1/some_new_thing", amount=100
            )

    assert len(fake.journal.entries) == 3
    assert (run.calls, run.refused, run.remaining) == (3, 0, 0)
    assert rows("would_refuse")[:2] == [(None,), ("cap_exceeded",)]
    assert rows("would_refuse")[2] == ("unclassified_endpoint",)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"max_calls": 0}, "call_limit_reached"),
        ({"max_amount": "0.10"}, "amount_too_large"),
        ({"allow": []}, "endpoint_not_allowed"),
        ({"daily_usd_cap": 0}, "cap_exceeded"),
        ({"limits": {"stripe.*.create": Limit(max_calls=0, per="90m")}}, "call_limit_reached"),
        ({"limits": {"stripe.*.create": Limit(cap=0, per="run")}}, "cap_exceeded"),
    ],
    ids=str,
)
def test_report_mode_reports_every_limit(ledger_url, fake, policy, reason):
    """Each kind of limit is reported, and none of them stops a call."""
    with keybrake.run("a", cap=9, mode="report", **policy):
        pay()

    assert rows("state, would_refuse") == [("settled", reason)]


def test_report_mode_can_be_stopped(ledger_url, fake):
    """Revoking and pausing also refuse calls in report mode."""
    with keybrake.run("a", cap=9, mode="report") as run:
        run.pause()
        with pytest.raises(keybrake.RunPaused):
            pay()
        run.revoke()
        with pytest.raises(keybrake.RunRevoked):
            pay()

    assert not fake.journal.entries


def test_a_report_run_does_not_soften_its_parent(ledger_url, fake):
    """A child in report mode is bound by an enforcing parent, and the other way round."""
    with (
        keybrake.run("boss", cap=1),
        keybrake.run("child", cap=9, mode="report"),
        pytest.raises(keybrake.CapExceeded, match="boss"),
    ):
        pay(5)
    with (
        keybrake.run("boss", cap=1, mode="report"),
        keybrake.run("child", cap=9),
    ):
        pay(5)
        with pytest.raises(keybrake.CapExceeded, match="this run"):
            pay(5)

    assert rows("state, would_refuse") == [
        ("refused", None),
        ("settled", "cap_exceeded"),
        ("refused", None),
    ]


# Bad input


@pytest.mark.parametrize(
    "bad",
    [
        {"label": ""}, {"label": "a" * 201}, {"label": None}, {"label": 5}, {"label": b"a"}, {"label": "\ud800"},
        {"label": "a\udfff"}, {"label": True}, {"label": ["a"]},
        {"cap": True}, {"cap": float("nan")}, {"cap": float("inf")}, {"cap": -1}, {"cap": -0.0}, {"cap": "\uff12\uff10\uff10"},
        {"cap": "1_000"}, {"cap": " 200\n"}, {"cap": "٣"}, {"cap": 10**30}, {"cap": 1j}, {"cap": []}, {"cap": "none"},
        {"daily_usd_cap": -1}, {"daily_usd_cap": "x"}, {"max_amount": True}, {"max_amount": "1e3"},
        {"max_calls": True}, {"max_calls": -1}, {"max_calls": 1.5}, {"max_calls": "5"},
        {"allow": "stripe.refunds.create"}, {"allow": ["*"]}, {"allow": ["/v1/*"]}, {"allow": ["(a+)+$"]},
        {"allow": ["stripe.refund.create"]}, {"allow": ["paypal.payments.create"]}, {"allow": [5]},
        {"limits": {"stripe.refunds.create": 5}}, {"limits": {"stripe.refunds.create": {"kap": 5}}},
        {"limits": {"stripe.refund.create": Limit(cap=1)}}, {"limits": 5},
        {"expires_in": "0s"}, {"expires_in": "2 h"}, {"expires_in": True}, {"expires_in": 5}, {"expires_in": "1mo"},
        {"policy": "nobody"}, {"policy": 5}, {"policy": {"cap": 1}}, {"mode": "dry-run"}, {"mode": None},
    ],
    ids=ascii,
)  # fmt: skip
def test_an_invalid_argument_is_refused_and_nothing_is_written(unmade_ledger, tmp_path, bad):
    """The PolicyError names the argument, and no ledger is created."""
    with pytest.raises(PolicyError) as refused:
        keybrake.run(**{"label": "agent", "cap": 1, **bad})

    said = str(refused.value)
    assert next(iter(bad)) in said or "endpoint" in said or "vendor" in said
    assert not (tmp_path / "ledger.db").exists()


def test_a_bad_run_leaves_an_existing_ledger_as_it_was(ledger_url, tmp_path):
    """Not one byte of any of the ledger's files changes."""
    with keybrake.run("good", cap=1):
        pass

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    before = contents()
    for bad in ({"cap": -1}, {"cap": 1, "allow": ["*"]}, {"cap": 1, "expires_in": "0s"}):
        with pytest.raises(PolicyError):
            keybrake.run("bad", **bad)

    assert contents() == before


@pytest.mark.parametrize("field", ["label", "mode", "policy"])
def test_a_number_too_long_to_print_is_refused(field):
    """A number of 5,000 digits is a PolicyError like any other."""
    with pytest.raises(PolicyError, match=field):
        keybrake.run(**{"label": "a", "cap": 1, field: 10**5000})


def test_a_cap_is_required():
    """Omitting the cap does not mean no cap."""
    with pytest.raises(PolicyError, match="cap is missing; say an amount in USD, or cap=None"):
        keybrake.run("a")
    with pytest.raises(PolicyError, match="cap is missing"):
        keybrake.run("a", max_calls=5)


LABELS = [
    "a",
    "a" * 200,
    "'); DROP TABLE call;--",
    "\x1b]52;c;AAAA\x07",
    "\x1b[2J",
    "nul\0byte",
    "\0",
    "\u202eright to left",
    '=HYPERLINK("http://evil.test")',
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "line\r\nbreak",
    "Z" + "\u0301" * 100,
    "{0.__class__} %s {label}",
    " ",
    "🙂" * 200,
]


@pytest.mark.parametrize("label", LABELS, ids=ascii)
def test_any_text_of_1_to_200_characters_is_a_label(ledger_url, fake, label):
    """Odd labels are stored unchanged, and appear in errors without control characters."""
    with keybrake.run(label, cap=1) as run, pytest.raises(keybrake.CapExceeded) as refused:
        pay(2)

    assert run.label == refused.value.label == label
    assert keybrake.open_ledger().runs(run.id)[0].label == label
    assert str(refused.value).isprintable()


def test_one_label_may_stand_for_many_runs(ledger_url, fake):
    """Labels are for people; ids tell runs apart."""
    with keybrake.run("same", cap=1) as one:
        pay()
    with keybrake.run("same", cap=1) as other:
        pay()

    assert one.id != other.id
    assert (one.spent, other.spent) == (1, 1)


def test_a_run_without_its_ledger_sends_nothing(unmade_ledger, fake, tmp_path):
    """Opening a run fails if its ledger cannot be opened."""
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(keybrake.LedgerUnavailable), keybrake.run("a", cap=1):
        pay()

    assert not fake.journal.entries
