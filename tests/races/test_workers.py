"""Do the workers of Celery and gunicorn keep to runs of their own, forked before or after one was opened?"""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import textwrap
import time

import pytest

import keybrake

PATIENCE_S = 90

# What both kinds of workers do. The variable says what the parent does before it forks them.
WORK = """
import json, os, threading
import keybrake, stripe

stripe.api_base, stripe.api_key = os.environ["BASE"], "sk_test_workers"
stripe.max_network_retries = 0

def charge():
    try:
        stripe.PaymentIntent.create(
            amount=100, currency="usd", payment_method="pm_card_visa", confirm=True
        )
    except keybrake.CallRefused as refusal:
        return refusal.reason
    return "charged"

def bare():
    return [charge()]

def own():
    with keybrake.run("own", cap=1) as run:
        return [charge(), charge()]

def joined(key):
    with keybrake.run(key=key):
        return [charge()]

def hold_open():
    with keybrake.run("the parent's", cap=3):
        opened.set()
        threading.Event().wait()

opened = threading.Event()
if os.environ["PARENT"] == "in a thread":
    threading.Thread(target=hold_open, daemon=True).start()
    opened.wait()
elif os.environ["PARENT"] == "around":
    keybrake.run("the parent's", cap=3).__enter__()
"""

TASKS = """
import celery
import work

app = celery.Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
app.conf.broker_connection_retry_on_startup = True

@app.task
def do(name, *args):
    line = json.dumps([name, os.getpid(), getattr(work, name)(*args)]) + "\\n"
    with open("said", "a") as file:
        file.write(line)
"""

SITE = """
import work

def application(environ, start_response):
    name, *args = environ["PATH_INFO"].strip("/").split("/")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([name, os.getpid(), getattr(work, name)(*args)]).encode()]
"""


def environment(folder, fake, parent):
    """Return the environment of the workers' parent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    return {**kept, "BASE": fake.url, "PARENT": parent, "PYTHONPATH": str(folder)}


@contextlib.contextmanager
def started(folder, fake, parent, *words):
    """Start a server of workers, and end it with the block."""
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=environment(folder, fake, parent),
            stdout=file,
            stderr=file,
        )
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def until(ready, log):
    """Wait until *ready* returns something, and return that."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError(log.read_text())


class Celery:
    """A Celery worker with two processes, and its client."""

    def __init__(self, folder, fake, parent):
        self._folder, self._environ = folder, environment(folder, fake, "nothing")
        (folder / "queue").mkdir()
        (folder / "tasks.py").write_text("import json, os\n" + textwrap.dedent(TASKS))
        words = ("celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "2", "--loglevel=INFO")
        self.serving = started(folder, fake, parent, *words, "--without-mingle", "--without-gossip")

    def __enter__(self):
        """Wait until the workers were forked."""
        self._log = self.serving.__enter__()
        until(lambda: " ready." in self._log.read_text(), self._log)
        return self

    def __exit__(self, *error):
        """End the workers."""
        self.serving.__exit__(*error)

    def send(self, name, *args, times=1):
        """Send a task a number of times, and return what came of each."""
        said = self._folder / "said"
        said.write_text("")
        code = (
            f"import tasks\nfor _ in range({times}): tasks.do.delay(*{(name, *map(str, args))!r})"
        )
        subprocess.run(
            [sys.executable, "-c", code], cwd=self._folder, env=self._environ, check=True
        )
        until(lambda: said.read_text().count("\n") == times, self._log)
        return [json.loads(line) for line in said.read_text().splitlines()]


class Gunicorn:
    """A gunicorn with two workers that loads the application before it forks them."""

    def __init__(self, folder, fake, parent):
        (folder / "site_.py").write_text("import json, os\n" + textwrap.dedent(SITE))
        words = ("gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:0", "site_:application")
        self.serving = started(folder, fake, parent, *words)

    def __enter__(self):
        """Wait until the workers were forked."""
        log = self.serving.__enter__()
        listening = re.compile(r"Listening at: http://127.0.0.1:(\d+)")
        self._port = int(until(lambda: listening.search(log.read_text()), log)[1])
        until(lambda: log.read_text().count("Booting worker") == 2, log)
        return self

    def __exit__(self, *error):
        """End the workers."""
        self.serving.__exit__(*error)

    def send(self, name, *args, times=1):
        """Ask for a page a number of times, and return what came of each."""
        return [self._ask("/".join(("", name, *args))) for _ in range(times)]

    def _ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        connection.request("GET", path)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer)


@pytest.fixture(params=[Celery, Gunicorn])
def workers(request, ledger_url, fake, tmp_path):
    """Return a function that starts workers whose parent does something before it forks them."""
    (tmp_path / "work.py").write_text(WORK)
    return lambda parent: request.param(tmp_path, fake, parent)


def outcomes(said):
    """Return what all tasks met, in any order."""
    return sorted(outcome for _, _, met in said for outcome in met)


def test_workers_that_are_older_than_every_run(workers, fake):
    """Each task's own run binds, and all tasks that join a run by its key stay under its cap together."""
    with workers("nothing") as server, keybrake.run("client", cap=4) as run:
        assert outcomes(server.send("own", times=3)) == ["cap_exceeded"] * 3 + ["charged"] * 3
        said = server.send("joined", run.key, times=6)
        assert outcomes(said) == ["cap_exceeded"] * 2 + ["charged"] * 4
        # A task that stands in no run, in a process that has none, is left alone.
        assert outcomes(server.send("bare")) == ["charged"]

        assert run.spent == 4
        run.revoke()
        assert outcomes(server.send("joined", run.key)) == ["run_revoked"]
    own = [one for one in keybrake.open_ledger().runs() if one.label == "own"]
    assert [(one.parent_uid, one.spent) for one in own] == [(None, 1_000_000)] * 3
    assert len(fake.journal.entries) == 3 + 4 + 1


def test_workers_do_not_stand_in_a_run_of_another_thread(workers, fake):
    """A run that a thread of the parent has open is nobody else's: no task spends its money."""
    with workers("in a thread") as server:
        assert outcomes(server.send("own")) == ["cap_exceeded", "charged"]
        assert outcomes(server.send("bare")) == ["no_active_run"]
    runs = {one.label: one for one in keybrake.open_ledger().runs()}
    assert runs["own"].parent_uid is None
    assert runs["the parent's"].spent == 0


def test_workers_that_are_forked_in_a_run_stay_in_it(workers, fake):
    """A run around the fork binds all workers together, and every run that they open."""
    with workers("around") as server:
        assert outcomes(server.send("own")) == ["cap_exceeded", "charged"]
        assert outcomes(server.send("bare", times=4)) == ["cap_exceeded"] * 2 + ["charged"] * 2
    runs = {one.label: one for one in keybrake.open_ledger().runs()}
    assert runs["own"].parent_uid == runs["the parent's"].uid
    assert runs["the parent's"].spent == 3_000_000
    assert len(fake.journal.entries) == 3
