"""What the tests of the command line share: a command as a user runs it, and a ledger to read."""

import contextlib
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stripe

import keybrake
from keybrake import Limit, ledger
from keybrake.cli import app
from keybrake.config import settings
from keybrake.testing import FakeStripe, Fault

PATIENCE_S = 30
ESCAPE_LABEL = "\x1b]52;c;c2VjcmV0\x07osc"
BIDI_LABEL = "pay \u202eevil\u202c"
HIDDEN_LABEL = "zero\u200bwidth\x7f\x9b31m"
FORMULA_LABEL = '=HYPERLINK("http://x","y")'
LINES_LABEL = "two\nlines\x00nul"
MARKUP_LABEL = "[bold red]loud[/]"
HOSTILE = (ESCAPE_LABEL, BIDI_LABEL, HIDDEN_LABEL, FORMULA_LABEL, LINES_LABEL, MARKUP_LABEL)


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Return standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Told]


def command(*words: object) -> list[str]:
    """Return the argument vector of a keybrake command."""
    return [sys.executable, "-m", "keybrake", *map(str, words)]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment that knows no ledger, no config and no colours of the developer's."""
    ours = ("KEYBRAKE_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), **changes}


@pytest.fixture
def process(tmp_path: Path) -> Cli:
    """Return a function that runs a keybrake command as a process, in an empty folder."""

    def run(*words: object, **changes: str) -> Told:
        done = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=environment(tmp_path, **changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def cli(tmp_path: Path, process: Cli) -> Cli:
    """
    Return a function that runs a keybrake command in an empty folder, within this process.

    Environment, working directory, streams and what is configured are those of a new process. The
    commands that start programs of their own run as a process.
    """

    def run(*words: object, **changes: str) -> Told:
        if {"exec", "demo"} & {str(word) for word in words} or any(
            "_KEYBRAKE" in c for c in changes
        ):
            return process(*words, **changes)
        return _run_here([str(word) for word in words], tmp_path, environment(tmp_path, **changes))

    return run


@pytest.fixture
def quick(cli: Cli) -> Cli:
    """See ``cli``."""
    return cli


def _run_here(words: list[str], folder: Path, env: dict[str, str]) -> Told:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in ("out", "err"))
    known = set(ledger._opened)
    with (
        pytest.MonkeyPatch.context() as patch,
        Path(os.devnull).open(encoding="utf-8") as nothing,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", nothing)
        patch.chdir(folder)
        settings.set_current(None)
        status = app.run(words)
    settings.set_current(None)
    for path in set(ledger._opened) - known:
        ledger._opened.pop(path).close()
    return Told(status, *(_text(stream) for stream in (out, err)))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts a program, a keybrake command by default, and goes on."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        *words: object, argv: list[str] | None = None, **changes: str
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            argv or command(*words),
            cwd=tmp_path,
            env=environment(tmp_path, **changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def at_terminal(tmp_path: Path) -> Cli:
    """Return a function that runs a keybrake command in two terminals, one for its errors."""

    def run(*words: object, columns: int = 120, **changes: str) -> Told:
        terminals = [pty.openpty() for _ in ("out", "err")]
        for _, theirs in terminals:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        with (
            subprocess.Popen(
                command(*words),
                cwd=tmp_path,
                env=environment(tmp_path, TERM="xterm-256color", **changes),
                stdout=terminals[0][1],
                stderr=terminals[1][1],
                stdin=subprocess.DEVNULL,
            ) as process,
            ThreadPoolExecutor() as readers,
        ):
            for _, theirs in terminals:
                os.close(theirs)
            out, err = readers.map(_everything, [ours for ours, _ in terminals])
        return Told(process.returncode, out, err)

    return run


def _everything(descriptor: int) -> str:
    seen = b""
    try:
        while more := os.read(descriptor, 65536):
            seen += more
    except OSError:
        # Linux says "input/output error" when the last writer of a terminal is gone.
        pass
    os.close(descriptor)
    return seen.decode().replace("\r\n", "\n")


@dataclass(frozen=True)
class Books:
    """A ledger to read, and the runs in it by what they are there for."""

    url: str
    path: Path
    ids: dict[str, str]
    hostile: tuple[str, ...] = HOSTILE


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Make a ledger with a call of every state, runs of every state and hostile labels."""
    path = tmp_path_factory.mktemp("books") / "ledger.db"
    url = f"sqlite:///{path}"
    http = stripe.new_default_http_client()
    with pytest.MonkeyPatch.context() as patch, FakeStripe() as fake:
        for name in [name for name in os.environ if name.startswith("KEYBRAKE_")]:
            patch.delenv(name)
        client = stripe.StripeClient(
            "sk_test_books",
            base_addresses={"api": fake.url},
            http_client=http,
            max_network_retries=0,
        )
        ids = _write(url, client, fake)
    http.close()
    # The last connection to close writes everything into the one file, which tests may copy.
    keybrake.open_ledger(url).close()
    return Books(url, path, ids)


def _pay(client: stripe.StripeClient, amount: int, **params: Any) -> Any:
    params = {"payment_method": "pm_card_visa", "confirm": True, **params}
    return client.v1.payment_intents.create({"amount": amount, "currency": "usd", **params})


def _write(url: str, client: stripe.StripeClient, fake: FakeStripe) -> dict[str, str]:
    ids = {}
    limits = {"stripe.refunds.create": Limit(cap=50, max_calls=5, per="1h")}
    with keybrake.run("invoice-agent", cap=100, max_calls=50, limits=limits, ledger=url) as run:
        ids["invoice"] = run.id
        _every_state(client, fake)
        with keybrake.run("child-agent", cap=10) as child:
            ids["child"] = child.id
            _pay(client, 100)
    for label in HOSTILE:
        with keybrake.run(label, cap=None, ledger=url):
            _pay(client, 100)
    ids |= {label: _open(url, label) for label in ("open", "paused", "revoked", "joined")}
    ids |= {f"twin {number}": _open(url, "twin") for number in (1, 2)}
    ledger = keybrake.open_ledger(url)
    ledger.pause(ids["paused"])
    ledger.revoke(ids["revoked"])
    return ids


def _open(url: str, label: str) -> str:
    return keybrake.issue_vault_key(label, cap=5, label=label, ledger=url).run_id


def _every_state(client: stripe.StripeClient, fake: FakeStripe) -> None:
    @keybrake.tool(name="payer", cap=60)
    def payer() -> Any:
        return _pay(client, 2999)

    payment = payer()
    client.v1.refunds.create({"payment_intent": payment.id, "amount": 500})
    with pytest.raises(stripe.CardError):
        _pay(client, 1000, payment_method="pm_card_chargeDeclined")
    with pytest.raises(keybrake.CapExceeded):
        _pay(client, 9999)
    fake.inject(Fault("error_500_after"))
    with pytest.raises(stripe.StripeError):
        _pay(client, 700)
    with keybrake.unguarded("a test of the log"):
        client.v1.customers.list()
