"""Is whoever asks another process for a credential served, however many do, and told why if not?"""

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
    """Return credentials with one of Stripe's."""
    monkeypatch.setenv("STRIPE_API_KEY", SECRET)
    return Credentials({}, 60)


def all_at_once(number, function):
    """Run a function in many threads at once and return what they returned or raised."""
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


def test_one_thread_asks_and_the_others_wait(known):
    """However many calls begin at the same time, the socket is asked once; a vendor has its own turn."""
    asked = []

    def may(key):
        asked.append(key)
        time.sleep(0.2)

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        brokered = Brokered(broker.address, "key", 60)
        assert all_at_once(16, lambda: brokered.get("stripe")) == [Credential(SECRET)] * 16
    assert asked == ["key"]


def test_one_that_fails_is_not_asked_by_everybody(known):
    """Whoever waited learns what the one that asked was told."""
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


def test_a_queue_that_is_full_is_waited_for(tmp_path):
    """A connection that is not taken yet is no refusal: it is tried again."""
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


def test_a_child_of_a_fork_does_not_wait_for_a_thread_that_it_has_not(known):
    """A thread that asks while another one forks holds its lock in the child for ever."""
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


def test_a_ledger_that_fails_is_told(known):
    """And not left to be guessed from a line that ends."""

    def may(_):
        msg = "the ledger is gone"
        raise LedgerUnavailable(msg, reason="ledger_unavailable", hint="")

    with Broker(known, NOTHING, may) as broker:
        broker.serve()
        with pytest.raises(CredentialError, match="the ledger is gone"):
            Brokered(broker.address, "key", 60).get("stripe")


def test_the_folder_is_another_one_if_its_path_is_too_long(known, monkeypatch, tmp_path):
    """The path of a socket has room for 108 bytes, or 104."""
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


def test_one_that_never_served_is_put_away(known):
    """The run that it was made for could not be opened."""
    with Broker(known, NOTHING, lambda _: None) as broker:
        assert Path(broker.address).exists()
    assert not Path(broker.address).parent.exists()


def test_the_user_goes_along(known, monkeypatch):
    """Twilio's credential is a pair."""
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "t")
    with Broker(known, NOTHING, lambda _: None) as broker:
        broker.serve()
        assert Brokered(broker.address, "key", 60).get("twilio") == Credential("t", "AC1")


def test_what_the_vendor_refused_is_fetched_anew_at_its_source(known, monkeypatch):
    """Once, for whoever comes with the refused one; who comes with an older one is given the newer."""
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
def test_what_is_configured_is_told_without_a_key(known, file):
    """It has no secret in it, and a process whose run is over has to know it, too."""
    written = Written(file, '# "é"\nledger = "x"\n' * 10_000)
    with Broker(known, written, lambda _: "no") as broker:
        broker.serve()
        told = parent_process.ask(broker.address, {"what": "configuration"})
    assert told == {"file": str(file or ""), "text": written.text}


def test_where_nobody_is_that_is_said(tmp_path):
    """With the system's own word for it."""
    words = "no credential for stripe: the keybrake exec that started this process: No such file"
    with pytest.raises(CredentialError, match=words):
        Brokered(str(tmp_path / "nobody"), "key", 60).get("stripe")
