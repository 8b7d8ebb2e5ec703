"""What every test may ask for: a ledger of its own, a fake Stripe, and no traces left behind."""

import contextlib
import gc
import json
import os
import shutil
import signal
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import stripe

import keybrake
from keybrake import ledger
from keybrake.config import settings
from keybrake.guard import caller
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.testing import FakeStripe

# A busy machine is slow, not wrong; and tests leave nothing outside of their own folder.
hypothesis.settings.register_profile(
    "keybrake",
    deadline=None,
    database=None,
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
)
hypothesis.settings.load_profile("keybrake")

_BASES = ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")


# Modules that leave connections of event loops behind. Nobody can close such a connection once its
# loop is closed, so the collector has to. KINDS are the ways of calling, one of which is async.
_ASYNC = {"asyncio", "anyio", "trio", "KINDS"}


def pytest_collection_finish() -> None:
    """Take what is loaded by now out of the collector's sight: each collection is cheap from here."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _signals_as_at_a_terminal() -> Iterator[None]:
    """
    Start every program as a terminal does, also under ``nohup`` or in the background.

    What is ignored here would be ignored in each program that a test starts; what has a handler here
    has the default there.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
    ignored = [one for one in handlers if signal.getsignal(one) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def _clean(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Begin without anybody's configuration, and see to it that no run stays open."""
    for name in [name for name in os.environ if name.startswith("KEYBRAKE_")]:
        monkeypatch.delenv(name)
    # Not even by mistake does a test write to the ledger of whoever runs it.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings.set_current(None)
    before = set(ledger._opened)
    yield
    settings.set_current(None)
    left_open = caller.open_runs.newest_ledger()
    assert left_open is None, f"the test left a run open in {left_open.url}"
    assert caller.active.get() is None, "the test left something around the code after it"
    keybrake.uninstall()
    # A process that lives long has one ledger or two; the one that runs these tests has thousands.
    for path in set(ledger._opened) - before:
        ledger._opened.pop(path).close()
    if not _ASYNC.isdisjoint(vars(request.module)):
        gc.collect()


@pytest.fixture(scope="session")
def new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a ledger that nobody writes to: a copy of its two files is a new ledger, too."""
    path = tmp_path_factory.mktemp("new") / "ledger.db"
    SQLiteLedger(path, lock_timeout_s=5, durability="process").close()
    return path


@pytest.fixture
def unmade_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Name a ledger that is not there yet, and that this process and its children use by default."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("KEYBRAKE_LEDGER", url)
    settings.set_current(None)
    return url


@pytest.fixture
def ledger_url(unmade_ledger: str, new_ledger: Path) -> str:
    """Name a new ledger that this process and its children use by default."""
    # Making one takes three times as long, and waits for the disk.
    for suffix in ("", ".seal"):
        shutil.copy(f"{new_ledger}{suffix}", f"{unmade_ledger.removeprefix('sqlite:///')}{suffix}")
    return unmade_ledger


@pytest.fixture
def rows(unmade_ledger: str) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads every call of the ledger, in order."""

    def read() -> list[dict[str, Any]]:
        path = unmade_ledger.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM call ORDER BY seq")]

    return read


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    """Start a fake Stripe that the module-style SDK talks to, one attempt per call."""
    # A client of its own, so that no connection outlives the fake it leads to.
    client = stripe.new_default_http_client()
    with FakeStripe() as running:
        for base in _BASES:
            monkeypatch.setattr(stripe, base, running.url, raising=False)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        monkeypatch.setattr(stripe, "max_network_retries", 0)
        monkeypatch.setattr(stripe, "default_http_client", client)
        yield running
    client.close()


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Record each HTTP request byte by byte, and answer from a script: first come, first served."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.script: list[tuple[int, Any, dict[str, str]] | None] = []
        self.otherwise: tuple[int, Any, dict[str, str]] | None = (404, {"error": {}}, {})
        super().__init__(("127.0.0.1", 0), _Scripted)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Answer the next request with *body* as JSON."""
        self.script.append((status, body, headers or {}))

    def hang_up(self) -> None:
        """Read the next request and answer nothing."""
        self.script.append(None)


class _Scripted(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = self.rfile.read(int(names.get(b"content-length", 0)))
        server: Any = self.server
        server.seen.append(head + body)
        answer = server.script.pop(0) if server.script else server.otherwise
        if answer is None:
            return
        status, content, headers = answer
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        extra = {"Content-Length": str(len(text)), "Connection": "close", **headers}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in extra.items())]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Start a scripted server that the module-style SDK talks to, one attempt per call."""
    client = stripe.new_default_http_client()
    with ScriptedServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        for base in _BASES:
            monkeypatch.setattr(stripe, base, server.url, raising=False)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        monkeypatch.setattr(stripe, "max_network_retries", 0)
        monkeypatch.setattr(stripe, "default_http_client", client)
        yield server
        server.shutdown()
    client.close()
