"""The wire under the fake: keys, connections, other processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import stripe

from keybrake.testing import FakeStripe, Fault, Journal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("key", "prefix"),
    [("kb_live_abc", "kb_"), ("pk_test_abc", "other"), ("abc", "other")],
)
def test_what_is_no_secret_key_is_turned_away(fake, key, prefix):
    """A vault key that leaked to the wire is a 401, and is not repeated anywhere."""
    with pytest.raises(stripe.AuthenticationError) as caught:
        stripe.PaymentIntent.create(amount=1, currency="usd", api_key=key)
    entry = fake.journal.entries[-1]

    assert (entry.http_status, entry.moved, entry.key_prefix) == (401, False, prefix)
    assert key not in str(caught.value)


def test_the_journal_keeps_no_key(fake, tmp_path):
    """Only what kind of key came is written down."""
    secret = "sk_test_" + "s3cr3t" * 4
    with FakeStripe(journal_path=tmp_path / "j") as other:
        stripe.api_base = other.url
        stripe.Balance.retrieve(api_key=secret)
        stripe.api_base = fake.url

    text = (tmp_path / "j").read_text()
    assert "s3cr3t" not in text
    assert json.loads(text)["key_prefix"] == "sk_"


def ask(connection: http.client.HTTPConnection, *request: object) -> tuple[int, object]:
    """Send a request on *connection* and return status and JSON."""
    connection.request(*request)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@contextmanager
def connected(url: str) -> Iterator[http.client.HTTPConnection]:
    """Open a connection to *url*."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def test_requests_without_the_sdk_get_stripes_error_shape(fake):
    """No key, basic auth, bad JSON and a bad upload are all answered, on one connection."""
    key = {"Authorization": "Bearer sk_test_fake"}
    basic = {"Authorization": "Basic c2tfdGVzdF9mYWtlOg=="}
    broken = {"Authorization": "Basic abcde"}
    json_body = {**key, "Content-Type": "application/json"}
    with connected(fake.url) as connection:
        assert ask(connection, "GET", "/v1/balance")[0] == 401
        assert ask(connection, "GET", "/v1/balance", None, basic)[0] == 200
        assert ask(connection, "GET", "/v1/balance", None, broken)[0] == 401
        assert ask(connection, "POST", "/v1/customers", '{"name": "Ada"}', json_body)[0] == 200
        assert ask(connection, "POST", "/v1/customers", "{", json_body)[0] == 400
        assert ask(connection, "POST", "/v1/customers", "[]", json_body)[0] == 400
        status, body = ask(connection, "POST", "/v1/files", "purpose=x", key)
        port = connection.sock.getsockname()[1]
        ask(connection, "GET", "/v1/balance", None, key)
        assert connection.sock.getsockname()[1] == port

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_a_chunked_body_is_read(fake):
    """A client that does not know the length beforehand is understood."""
    with connected(fake.url) as connection:
        headers = {"Authorization": "Bearer sk_test_fake"}
        status, body = ask(connection, "POST", "/v1/customers", iter([b"name=", b"Ada"]), headers)

    assert (status, body["name"]) == (200, "Ada")


def test_half_a_request_is_no_request(fake):
    """A client that dies while sending has charged nothing."""
    head = "POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_a\r\n"
    with socket.create_connection(("127.0.0.1", fake.port)) as raw:
        raw.sendall(f"{head}Content-Length: 22\r\n\r\namount=1&currency=us".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1024) == b""

    assert fake.journal.entries == ()


def test_a_defect_of_the_fake_itself_is_shown(fake, capsys):
    """A predicate that raises ends the connection and is not hidden."""
    fake.inject(Fault("rate_limit", when=lambda _: 1 / 0))
    with pytest.raises(stripe.APIConnectionError):
        stripe.Customer.create()

    assert "ZeroDivisionError" in capsys.readouterr().err


def test_stopping_does_not_wait_for_open_connections(fake):
    """A fake with an idle keep-alive connection stops at once, and can start again."""
    stripe.Customer.create(name="Ada")
    stopper = threading.Thread(target=fake.stop)
    stopper.start()
    stopper.join(timeout=2)

    assert not stopper.is_alive()
    with pytest.raises(stripe.APIConnectionError):
        stripe.Customer.list()
    url = fake.url
    fake.start()
    assert fake.start().url == url
    assert [customer.name for customer in stripe.Customer.list().data] == ["Ada"]


def test_many_clients_connect_at_once(fake):
    """A hundred connections opened in one go are all served."""
    sockets = [socket.create_connection(("127.0.0.1", fake.port)) for _ in range(100)]
    for raw in sockets:
        raw.sendall(b"GET /v1/balance HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answers = [raw.recv(65536) for raw in sockets]
    for raw in sockets:
        raw.close()

    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 401 Unauthorized"}


def test_the_journal_file_is_written_before_the_answer(tmp_path, monkeypatch):
    """Whoever has an answer finds it in the file."""
    path = tmp_path / "journal.jsonl"
    with FakeStripe(journal_path=path, latency=0.05) as fake:
        monkeypatch.setattr(stripe, "api_base", fake.url)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        intent = stripe.PaymentIntent.create(amount=7, currency="usd", metadata={"a": "b"})
        entries = Journal.read(path).entries

    assert [entry.object_id for entry in entries] == [intent.id]
    assert entries[0].params == {"amount": "7", "currency": "usd", "metadata": {"a": "b"}}
    assert (entries[0].method, entries[0].path) == ("POST", "/v1/payment_intents")


def test_another_process_can_look_in_and_break_things(fake):
    """The admin pages show the journal and take faults and chaos."""
    fault = json.dumps([{"kind": "rate_limit", "times": 2}])
    with connected(fake.url) as connection:
        assert ask(connection, "POST", "/_fake/faults", fault)[0] == 200
        for _ in range(2):
            with pytest.raises(stripe.RateLimitError):
                stripe.Customer.create()
        chaos = json.dumps({"rate": 1, "kinds": ["rate_limit"]})
        assert ask(connection, "POST", "/_fake/chaos", chaos)[0] == 200
        with pytest.raises(stripe.RateLimitError):
            stripe.Customer.create()
        _, journal = ask(connection, "GET", "/_fake/journal")
        wrong = ask(connection, "POST", "/_fake/faults", '[{"kind": "gremlins"}]')
        nowhere = ask(connection, "GET", "/_fake/nowhere")

    assert [entry["fault"] for entry in journal] == ["rate_limit"] * 3
    assert (wrong[0], nowhere[0]) == (400, 404)


@contextmanager
def process(*arguments: str, stdin: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run the fake as a module; it must be over when the block is."""
    command = [sys.executable, "-W", "error", "-m", "keybrake.testing.stripe", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_it_serves_from_a_process_of_its_own_until_stdin_closes(tmp_path, monkeypatch):
    """It prints its URL, serves, and goes quietly."""
    path = tmp_path / "journal.jsonl"
    monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
    with process("--port", "0", "--journal", str(path), "--latency", "0.01") as running:
        monkeypatch.setattr(stripe, "api_base", running.stdout.readline().strip())
        stripe.PaymentIntent.create(amount=1, currency="usd")
        rest, errors = running.communicate(timeout=10)

    assert (running.returncode, rest, errors) == (0, "", "")
    assert Journal.read(path).total() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(number):
    """Both polite signals end it with 0, also when there is no standard input to watch."""
    with process("--chaos", "0.15", "--seed", "7", stdin=subprocess.DEVNULL) as running:
        assert running.stdout.readline().startswith("http://127.0.0.1:")
        running.send_signal(number)
        assert running.wait(timeout=10) == 0
        assert running.stderr.read() == ""


def test_the_pytest_fixture_points_the_sdk_at_a_fake(tmp_path):
    """A user's test needs the fixture and nothing else; afterwards the SDK is as before."""
    test = tmp_path / "test_mine.py"
    test.write_text(
        "import stripe\n"
        "def test_agent(fake_stripe):\n"
        "    stripe.PaymentIntent.create(amount=5, currency='usd')\n"
        "    assert fake_stripe.journal.total() == 5\n"
        "def test_afterwards():\n"
        "    assert stripe.api_key is None\n"
        "    assert stripe.api_base == 'https://api.stripe.com'\n"
    )
    # Loaded by name: whether the package is installed, with its entry point, is not the question.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "keybrake.testing.pytest_plugin"]
    done = subprocess.run(
        [
            *command,
            "-p",
            "no:cacheprovider",
            "-o",
            "filterwarnings=error::ResourceWarning",
            str(test),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
