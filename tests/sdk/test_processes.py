"""Does a run follow into every process that multiprocessing or an executor starts or feeds in it?"""

import pytest

import keybrake
from tests.sdk._program import run

METHODS = ("fork", "spawn", "forkserver")
STOPPED = ["charged"] * 4 + ["cap_exceeded"] * 2

WORK = """
import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import BaseManager

def tell(queue):
    queue.put([charge() for _ in range(6)])

class Payer(multiprocessing.Process):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue
    def run(self):
        tell(self.queue)

class Terse(Payer):
    # Pickles only what it must.
    def __getstate__(self):
        kept = ("queue", "_config", "_identity", "_parent_pid", "_popen", "_name", "_parent_name", "_closed")
        return {name: self.__dict__[name] for name in kept if name in self.__dict__}

class Till:
    def charge(self):
        return charge()

class Tills(BaseManager):
    pass

Tills.register("Till", Till)

def process(context, queue):
    made = context.Process(target=tell, args=(queue,))
    made.start()
    return made

def of_class(kind):
    def made(context, queue):
        kind._Popen = staticmethod(context.Process._Popen)
        one = kind(queue)
        one.start()
        return one
    return made

def started(start):
    def act(context, _old):
        queue = context.Queue()
        one = start(context, queue)
        said = queue.get(timeout=60)
        one.join()
        return said
    return act

def thread_starts(context, _old):
    import threading
    said = []
    thread = threading.Thread(target=lambda: said.append(started(process)(context, None)))
    thread.start()
    thread.join()
    return said[0]

async def in_loop(executor):
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, charge) for _ in range(6)))

def new_pool(context, _old):
    with context.Pool(2) as pool:
        return pool.map(charge, range(6))

def new_executor(context, _old):
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(charge, range(6)))

def renewed_executor(context, _old):
    # Python renews workers only where it does not fork them.
    most = {} if context.get_start_method() == "fork" else {"max_tasks_per_child": 2}
    with ProcessPoolExecutor(1, mp_context=context, **most) as executor:
        return [executor.submit(charge).result() for _ in range(6)]

def renewed_pool(context, _old):
    with context.Pool(1, maxtasksperchild=2) as pool:
        return pool.map(charge, range(6), chunksize=1)

def new_manager(context, _old):
    with Tills(ctx=context) as tills:
        till = tills.Till()
        return [till.charge() for _ in range(6)]

WAYS = {
    "a process": started(process),
    "a subclass": started(of_class(Payer)),
    "a subclass that pickles little": started(of_class(Terse)),
    "a process of a thread": thread_starts,
    "a new pool": new_pool,
    "a new pool that renews its workers": renewed_pool,
    "a new executor": new_executor,
    "a new executor that renews its workers": renewed_executor,
    "a new manager": new_manager,
    "an old pool, map": lambda context, old: old.pool.map(charge, range(6)),
    "an old pool, starmap": lambda context, old: old.pool.starmap(charge, [()] * 6),
    "an old pool, imap": lambda context, old: list(old.pool.imap(charge, range(6), chunksize=3)),
    "an old pool, unordered": lambda context, old: list(old.pool.imap_unordered(charge, range(6))),
    "an old pool, apply": lambda context, old: [old.pool.apply(charge) for _ in range(6)],
    "an old pool, by name": lambda context, old: [old.pool.apply_async(func=charge).get() for _ in range(6)],
    "an old executor, map": lambda context, old: list(old.executor.map(charge, range(6))),
    "an old executor, submit": lambda context, old: [old.executor.submit(charge).result() for _ in range(6)],
    "an old executor in a loop": lambda context, old: asyncio.run(in_loop(old.executor)),
    "an old manager": lambda context, old: [old.till.charge() for _ in range(6)],
}

class Old:
    # What is older than the run, and has worked before.
    def __init__(self, context):
        self.pool = context.Pool(2)
        self.pool.map(abs, range(4))
        self.executor = ProcessPoolExecutor(2, mp_context=context)
        list(self.executor.map(abs, range(4)))
        self.tills = Tills(ctx=context)
        self.tills.start()
        self.till = self.tills.Till()
    def end(self):
        self.pool.close(); self.pool.join(); self.executor.shutdown(); self.tills.shutdown()
"""

EACH_WAY = (
    WORK
    + """
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    old = Old(context)
    for name, way in WAYS.items():
        with keybrake.run(name, cap=4) as run:
            outcomes = way(context, old)
        say([name, sorted(outcomes), str(run.spent), run.state])
    old.end()
"""
)


@pytest.mark.parametrize("method", METHODS)
def test_the_cap_binds_in_every_process(ledger_url, fake, tmp_path, method):
    """Whatever way code gets into another process, four of its six dollars go out under a cap of $4."""
    said = run(tmp_path, fake.url, EACH_WAY, method)

    names = [name for name, *_ in said]
    assert names
    assert said == [[name, sorted(STOPPED), "4.00", "closed"] for name in names]
    assert len(fake.journal.entries) == 4 * len(names)


def test_a_tool_an_inner_run_and_unguarded_go_along(ledger_url, fake, tmp_path, rows):
    """A tool's cap, both runs of a nest, and a reason in writing bind a task as they bind the caller."""
    text = """
    def who():
        run = keybrake.current_run()
        return [charge(), run.label, str(run.spent)]

    @keybrake.tool(cap=2)
    def pay(pool):
        return [pool.apply(charge) for _ in range(3)]

    def narrower(pool):
        with keybrake.run("inner", cap=1):
            return [pool.apply(who), pool.apply(charge)]

    if __name__ == "__main__":
        for method in ("spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                with keybrake.run("outer", cap=5) as run:
                    say([pay(pool), narrower(pool), str(run.spent)])
                    with keybrake.unguarded("a test"):
                        say(pool.apply(charge))
    """
    said = run(tmp_path, fake.url, text)

    one = [["charged", "charged", "cap_exceeded"], [["charged", "inner", "1.00"], "cap_exceeded"]]
    assert said == [[*one, "3.00"], "charged"] * 2
    unguarded = [row for row in rows() if row["state"] == "unguarded"]
    assert [row["reason"] for row in unguarded] == ["a test"] * 2
    assert None not in [row["run"] for row in unguarded]


def test_a_stop_binds_the_next_call_of_a_child(ledger_url, fake, tmp_path):
    """A run that is revoked while its children work makes no further call in any of them."""
    text = """
    def work(first, stopped):
        seen = [charge()]
        first.release()
        stopped.wait(60)
        return [*seen, charge()]

    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            first, stopped = manager.Semaphore(0), manager.Event()
            with context.Pool(2) as pool, keybrake.run("agent", cap=9) as run:
                tasks = [pool.apply_async(work, (first, stopped)) for _ in range(2)]
                for _ in tasks:
                    first.acquire()
                run.revoke()
                stopped.set()
                say([task.get(60) for task in tasks])
    """
    assert run(tmp_path, fake.url, text) == [[["charged", "run_revoked"]] * 2]
    assert len(fake.journal.entries) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_outlives_a_run_does_not_stand_in_it(ledger_url, fake, tmp_path, method):
    """A worker that was born in a run takes later tasks where they are handed in: outside, or in another run."""
    text = """
    from concurrent.futures import ProcessPoolExecutor

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with keybrake.run("first", cap=1):
            pool, executor = context.Pool(1), ProcessPoolExecutor(1, mp_context=context)
            say([pool.apply(charge), executor.submit(charge).result()])
        say([pool.apply(charge), executor.submit(charge).result()])
        with keybrake.run("second", cap=1):
            say([executor.submit(charge).result(), pool.apply(charge)])
        pool.close(); pool.join(); executor.shutdown()
    """
    said = run(tmp_path, fake.url, text, method)

    once = ["charged", "cap_exceeded"]
    # In a process in which no run is open, calls are left alone.
    assert said == [once, ["charged", "charged"], once]


@pytest.mark.parametrize("method", METHODS)
def test_a_stray_task_is_refused_in_a_worker_too(ledger_url, fake, tmp_path, method):
    """What stands in no run while one is open is refused where it is handed in, and in its worker or child."""
    text = """
    import threading
    def tell(queue):
        queue.put(charge())

    def stray(context, pool, said):
        queue = context.Queue()
        child = context.Process(target=tell, args=(queue,))
        child.start()
        said += [charge(), pool.apply(charge), queue.get(timeout=60)]
        child.join()

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        pool, said, go = context.Pool(1), [], threading.Event()
        thread = threading.Thread(target=lambda: go.wait() and stray(context, pool, said))
        thread.start()
        with keybrake.run("agent", cap=5):
            go.set()
            thread.join()
        pool.close(); pool.join()
        say(said)
    """
    assert run(tmp_path, fake.url, text, method) == [["no_active_run"] * 3]
    assert fake.journal.entries == ()


def test_a_run_that_a_worker_joins_by_itself_stays_around_its_tasks(ledger_url, fake, tmp_path):
    """An initializer that joins a run by its key goes on binding the tasks that are handed in outside of runs."""
    text = """
    def join(key):
        keybrake.run(key=key).__enter__()

    if __name__ == "__main__":
        key = keybrake.issue_vault_key("workers", cap=2)
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(1, join, (key,)) as pool:
                say([pool.apply(charge) for _ in range(2)])
    """
    assert run(tmp_path, fake.url, text) == [["charged"] * 2, ["cap_exceeded"] * 2]


def test_the_ledger_and_the_settings_of_the_parent_hold(fake, tmp_path, monkeypatch):
    """A child uses the ledger and the settings of its parent's code, whatever folder it works in."""
    (tmp_path / "elsewhere").mkdir()
    text = """
    def euro(folder):
        os.chdir(folder)
        try:
            stripe.PaymentIntent.create(
                amount=100, currency="eur", payment_method="pm_card_visa", confirm=True
            )
        except keybrake.CallRefused as refusal:
            return refusal.reason
        return "charged"

    if __name__ == "__main__":
        keybrake.configure(ledger="sqlite:///mine.db", usd_per={"EUR": "2"}, margin_bps=0)
        for method in ("spawn", "forkserver"):
            with keybrake.run(method, cap=4) as run:
                os.chdir("elsewhere")
                with multiprocessing.get_context(method).Pool(1) as pool:
                    say([pool.apply(euro, ("/",)) for _ in range(3)])
                os.chdir("..")
                say(str(run.spent))
    """
    monkeypatch.delenv("KEYBRAKE_LEDGER", raising=False)

    said = run(tmp_path, fake.url, text)

    assert said == [["charged", "charged", "cap_exceeded"], "4.00"] * 2
    assert not (tmp_path / "elsewhere" / "mine.db").exists()


def test_a_childs_threads_and_runs_stand_under_the_run(ledger_url, fake, tmp_path):
    """A thread that keybrake does not see start, and a run that is opened in a child, spend the parent's money."""
    text = """
    import _thread, threading
    def unseen(queue):
        done = threading.Event()
        _thread.start_new_thread(lambda: (queue.put(charge()), done.set()), ())
        done.wait(60)

    def wider(queue):
        with keybrake.run("wider", cap=None):
            queue.put(charge())

    def without(queue):
        try:
            keybrake.uninstall()
        except keybrake.PolicyError:
            queue.put(charge())

    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        for target in (unseen, wider, without):
            with keybrake.run("agent", cap=1) as run:
                said = []
                for _ in range(2):
                    queue = context.Queue()
                    child = context.Process(target=target, args=(queue,))
                    child.start()
                    said.append(queue.get(timeout=60))
                    child.join()
                say([said, str(run.spent)])
    """
    assert run(tmp_path, fake.url, text) == [[["charged", "cap_exceeded"], "1.00"]] * 3


def test_the_key_of_the_start_goes_along(ledger_url, fake, tmp_path):
    """A process that takes its vault key out of its environment starts no child without it."""
    text = """
    if __name__ == "__main__":
        keybrake.install()
        with multiprocessing.get_context("spawn").Pool(1) as older:
            del os.environ["KEYBRAKE_VAULT_KEY"]
            said = [older.apply(charge)]
            for method in ("spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    said.append(pool.apply(charge))
            say(said)
    """
    key = keybrake.issue_vault_key("started", cap=2)

    said = run(tmp_path, fake.url, text, KEYBRAKE_VAULT_KEY=key)

    assert said == [["charged", "charged", "cap_exceeded"]]


def test_no_command_line_shows_the_key(ledger_url, fake, tmp_path):
    """The run's key travels through pipes: ps shows it of no child, and no repr does."""
    text = """
    from pathlib import Path
    from keybrake.sdk import standing as _standing

    def command_line():
        return Path("/proc/self/cmdline").read_text() + Path("/proc/self/environ").read_text()

    if __name__ == "__main__":
        with keybrake.run("agent", cap=1) as run:
            seen = repr(_standing.here())
            for method in ("spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    seen += pool.apply(command_line)
        say([run.key in seen, "multiprocessing" in seen, "agent" in seen])
    """
    assert run(tmp_path, fake.url, text) == [[False, True, True]]


def test_joblib_and_loky(ledger_url, fake, tmp_path):
    """Workers of loky, older than the run, stand where a function is handed in; so does joblib in front of it."""
    text = """
    import joblib
    from joblib.externals import loky

    def pay(*_):
        # Loky sends a function of the main module without what stands around it there.
        stripe.api_base, stripe.api_key = os.environ["BASE"], "sk_test_program"
        return charge()

    def in_joblib():
        return joblib.Parallel(2, pre_dispatch="all")(joblib.delayed(pay)() for _ in range(6))

    if __name__ == "__main__":
        old = loky.ProcessPoolExecutor(max_workers=2)
        list(old.map(abs, range(3)))
        for act in (in_joblib, lambda: list(old.map(pay, range(6)))):
            with keybrake.run("agent", cap=4) as run:
                say([sorted(act()), str(run.spent)])
        say(old.submit(pay).result())
        old.shutdown()
    """
    assert run(tmp_path, fake.url, text) == [[sorted(STOPPED), "4.00"]] * 2 + ["charged"]


def test_what_others_put_back_takes_no_run_along(ledger_url, fake, tmp_path):
    """A tracer or a mock that puts submit() and Popen back as they were before leaves the run in its place."""
    text = """
    import subprocess
    from concurrent.futures import ProcessPoolExecutor

    if __name__ == "__main__":
        submit, begin = ProcessPoolExecutor.submit, subprocess.Popen.__init__
        keybrake.install()
        ProcessPoolExecutor.submit, subprocess.Popen.__init__ = submit, begin
        with ProcessPoolExecutor(1) as executor, keybrake.run("agent", cap=1):
            say([executor.submit(charge).result() for _ in range(2)])
            say(subprocess.run(["env"], capture_output=True, text=True).stdout.count("KEYBRAKE_VAULT_KEY="))
    """
    assert run(tmp_path, fake.url, text) == [["charged", "cap_exceeded"], 1]
