"""keybrake exec serves credentials to many callers at once, and errors say why it does not."""

import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from keybrake.config import parent_process
from keybrake.config.config_file import Written
from keybrake.credentials import Broker, Brokered, Credential, Credentials
from keybrake.errors import CredentialError, LedgerUnavailable

NOTHING = Written(None, "")
SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture
def known(monkeypatch):
    """Return a provider with a credential for Stripe."""
    monkeypatch.setenv("STRIPE_API_KEY", SECRET)
    return Credentials({}, 60)


def all_at_once(number, function):
    """Run a function in many threads at once, and return their results or errors."""
    barrier, got = threading.Barrier(number), []

    def work():
        barrier.wait()
        try:
            got.append(function())
        except CredentialError as error:
            got.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_concurrent_calls_share_one_request(known):
    """Calls that start together send one request per vendor to the socket."""
    asked = []

    def may(key):
        asked.append(key)
        time.sleep(0.2)

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        brokered = Brokered(broker.address, "key", 60)
        assert all_at_once(16, lambda: brokered.get("stripe")) == [Credential(SECRET)] * 16
    assert asked == ["key"]


def test_waiting_threads_share_a_failure(known):
    """Threads that waited for a failed request get its error without a request of their own."""
    asked = []

    def may(key):
        asked.append(key)
        time.sleep(0.2)
        return "no"

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        brokered = Brokered(broker.address, "key", 60)
        assert all_at_once(16, lambda: brokered.get("stripe")) == ["no"] * 16
    assert asked == ["key"]


def test_a_full_accept_queue_is_retried(tmp_path):
    """A connection that the server cannot accept yet is tried again."""
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(0)

        def answer():
            time.sleep(0.5)
            for _ in range(16):
                line, _ = server.accept()
                with line:
                    line.recv(4096)
                    line.sendall(b'{"secret": "one"}\n')

        threading.Thread(target=answer, daemon=True).start()
        got = all_at_once(16, lambda: Brokered(address, "key", 60).get("stripe"))
    assert got == [Credential("one")] * 16


def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(known):
    """A lock that a thread of the parent held at the fork does not block the child."""
    begun, go_on = threading.Event(), threading.Event()

    def may(_):
        begun.set()
        go_on.wait(5)

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        brokered = Brokered(broker.address, "key", 60)
        asking = threading.Thread(target=brokered.get, args=("stripe",))
        asking.start()
        begun.wait()
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if brokered.get("stripe").secret == SECRET else 1)
            finally:
                os._exit(2)
        go_on.set()
        asking.join()
        until = time.monotonic() + 10
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
            time.sleep(0.02)
        if ended[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
    assert ended == (child, 0)


def test_a_failing_ledger_is_reported_to_the_caller(known):
    """The caller gets the error of the ledger instead of a broken connection."""

    def may(_):
        msg = "the ledger is gone"
        raise LedgerUnavailable(msg, reason="ledger_unavailable", hint="")

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        with pytest.raises(CredentialError, match="the ledger is gone"):
            Brokered(broker.address, "key", 60).get("stripe")


def test_a_long_temporary_path_falls_back_to_tmp(known, monkeypatch, tmp_path):
    """The path of a Unix socket has room for 108 bytes, or 104 on macOS."""
    long = tmp_path / ("é" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Broker(known, NOTHING, lambda _: None) as broker:
        broker.serve()
        assert broker.address.startswith("/tmp/keybrake-")
        assert Path(broker.address).parent.stat().st_mode & 0o077 == 0
        assert Brokered(broker.address, "key", 60).get("stripe").secret == SECRET
        folder = Path(broker.address).parent
    assert not folder.exists()
    assert list(long.iterdir()) == []


def test_a_broker_that_never_served_is_cleaned_up(known):
    """The folder of the socket is deleted even if the run could not be opened."""
    with Broker(known, NOTHING, lambda _: None) as broker:
        assert Path(broker.address).exists()
    assert not Path(broker.address).parent.exists()


def test_the_user_name_is_sent_with_the_secret(known, monkeypatch):
    """A Twilio credential consists of a user name and a secret."""
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "t")
    with Broker(known, NOTHING, lambda _: None) as broker:
        broker.serve()
        assert Brokered(broker.address, "key", 60).get("twilio") == Credential("t", "AC1")


def test_a_refused_credential_is_fetched_again_once(known, monkeypatch):
    """The broker fetches a refused credential again, and gives the newer one to callers with an older one."""
    with Broker(known, NOTHING, lambda _: None) as broker:
        broker.serve()
        one, other = (Brokered(broker.address, "key", 60) for _ in range(2))
        old = one.get("stripe")
        assert other.get("stripe") == old
        monkeypatch.setenv("STRIPE_API_KEY", "sk_live_rotated")
        assert one.get("stripe") == old
        assert one.get("stripe", refused=old) == Credential("sk_live_rotated")
        monkeypatch.setenv("STRIPE_API_KEY", "sk_live_rotated_again")
        assert other.get("stripe", refused=old) == Credential("sk_live_rotated")


@pytest.mark.parametrize("file", [None, Path("/etc/keybrake/keybrake.toml")])
def test_the_configuration_is_sent_without_a_key(known, file):
    """The configuration contains no secret, and a process whose run has ended still needs it."""
    written = Written(file, '# "é"\nledger = "x"\n' * 10_000)
    with Broker(known, written, lambda _: "no") as broker:
        broker.serve()
        told = parent_process.ask(broker.address, {"what": "configuration"})
    assert told == {"file": str(file or ""), "text": written.text}


def test_a_missing_broker_is_reported(tmp_path):
    """The error contains the system's reason, such as a missing socket."""
    words = "no credential for stripe: the keybrake exec that started this process: No such file"
    with pytest.raises(CredentialError, match=words):
        Brokered(str(tmp_path / "nobody"), "key", 60).get("stripe")
