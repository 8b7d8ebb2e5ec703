"""
Does the real credential show anywhere but on the wire?

Each probe looks where a credential has been seen to turn up: in objects, tracebacks, logs, cassettes,
arguments and files. What code in the same interpreter finds by going through the heap is no probe:
docs/concepts/threat-model.md says so.
"""

import asyncio
import base64
import contextlib
import copy
import gc
import logging
import pickle
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType

import pytest
import requests
import resend
import stripe
import vcr

import keybrake
from keybrake import credentials
from keybrake.credentials import Credential, Secret
from keybrake.sdk import injection, redirects
from tests.sdk._vault_calls import ANSWERS, KINDS, OLD_WAYS, SECRETS, SID, caller, operator

pytestmark = OLD_WAYS


def forms(vendor):
    """Return every form in which a vendor's secret could show."""
    secret = SECRETS[vendor]
    return (secret, base64.b64encode(f"{SID}:{secret}".encode()).decode())


@pytest.fixture
def server(ledger_url, wire, monkeypatch):
    """Return a server that the operator has named for every vendor."""
    operator(monkeypatch, stripe=wire.url, twilio=wire.url, resend=wire.url)
    return wire


class Probes:
    """Look for a vendor's secret, and count the looks."""

    def __init__(self, vendor):
        self.forms = forms(vendor)
        self.looks = 0

    def none_in(self, where, text):
        self.looks += 1
        assert not any(form in text for form in self.forms), f"the credential shows in {where}"

    def error(self, error):
        """Every frame's locals, every cause, and whatever hangs on to each of them."""
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.none_in("a traceback with locals", "".join(told.format()))
        for one in _chain(error):
            self.none_in(f"the arguments of {type(one).__name__}", _deep((one.args, vars(one)), 8))
            frames = one.__traceback__
            while frames is not None:
                if frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in (
                    *("tests", "_pytest", "pluggy"),
                ):
                    self.none_in(
                        f"{frames.tb_frame.f_code.co_name}()", _deep(frames.tb_frame.f_locals)
                    )
                frames = frames.tb_next


def _chain(error):
    seen = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return seen


def _shown(value):
    with contextlib.suppress(Exception):
        return repr(value)
    return ""


def _deep(value, depth=4):
    """Return what anybody would see who looks a few attributes deep, other than at a ``Secret`` itself."""
    if isinstance(value, Secret) or depth == 0:
        return repr(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("latin-1")
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
        parts += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    return "\n".join([_shown(value), *(_deep(part, depth - 1) for part in parts)])


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_nothing_shows_after_a_call(server, monkeypatch, tmp_path, caplog, capfd, vendor, way):  # noqa: PLR0917
    """A call that worked leaves the credential in no object, log, file or argument."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(stripe, "log", "debug")
    key = keybrake.issue_vault_key("session-7", cap=20)
    server.answer(200, ANSWERS[vendor], {"Content-Type": "application/json"})
    done = caller(vendor, way, key, server.url, monkeypatch)
    made = done.call()
    probes = Probes(vendor)
    assert probes.forms[vendor == "twilio"].lower().encode() in server.seen[0].lower()

    probes.none_in("what the call returned", _deep(made))
    probes.none_in("a copy of it", _deep(copy.copy(made)))
    for module in (stripe, resend):
        own = [value for value in vars(module).values() if not isinstance(value, ModuleType)]
        probes.none_in(f"the module {module.__name__}", _deep(own))
    if done.client is not None:
        probes.none_in("the client", _deep(done.client, 5))
        assert done.client.http_client._test_only_last_request.auth == ("", key)
    probes.none_in("the debug log", caplog.text)
    out, err = capfd.readouterr()
    probes.none_in("standard output", out)
    probes.none_in("standard error", err)
    _files_and_arguments(probes, tmp_path)
    probes.none_in("the ledger's rows", str(list(_rows(tmp_path))))
    held = credentials.current()
    probes.none_in("the store of credentials", repr(vars(held)))
    probes.none_in("a pickled credential", str(pickle.loads(pickle.dumps(held.get(vendor)))))
    with capfd.disabled():
        print(f"\n{vendor} {way}: {probes.looks} probes, 0 hits", end="")


def _files_and_arguments(probes, folder):
    # Not the place where this test keeps the secret itself: its environment.
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            probes.none_in(file.name, file.read_bytes().decode("latin-1"))
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            probes.none_in(str(file), file.read_bytes().decode("latin-1"))


def _rows(folder):
    import sqlite3

    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as db:
        yield from db.iterdump()


def _refuse(server):
    server.shutdown()
    server.server_close()


FAILURES = {
    "no connection": _refuse,
    "no answer": lambda server: server.hang_up(),
    "garbage": lambda server: server.answer(200, b"<html>", {"Content-Type": "text/html"}),
    "401": lambda server: server.answer(401, {"error": {"message": "no"}, "message": "no"}),
    "500": lambda server: server.answer(500, {"error": {"message": "no"}, "message": "no"}),
}


@pytest.mark.parametrize("failure", list(FAILURES))
@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_nothing_shows_in_an_error(server, monkeypatch, capfd, caplog, vendor, way, failure):  # noqa: PLR0917
    """An error carries the credential neither in its frames nor in the request that hangs on to it."""
    caplog.set_level(logging.DEBUG)
    key = keybrake.issue_vault_key("session-7", cap=20)
    assert credentials.current().get(vendor)
    FAILURES[failure](server)
    server.otherwise = None
    done = caller(vendor, way, key, server.url, monkeypatch)
    probes = Probes(vendor)
    try:
        answer = done.call()
    except Exception as error:  # noqa: BLE001 -- every vendor has its own
        probes.error(error)
    else:
        assert (vendor, failure) == ("twilio", "garbage"), answer
    if done.client is not None:
        probes.none_in("the client", _deep(done.client, 5))
    probes.none_in("the debug log", caplog.text)
    with capfd.disabled():
        print(f"\n{vendor} {way} {failure}: {probes.looks} probes, 0 hits", end="")


def _raised(cause=None):
    """Return an error with a frame that has the credential among its locals."""

    def fails():
        evidence = f"Bearer {SECRETS['stripe']}"
        raise ConnectionError(len(evidence)) from cause

    try:
        fails()
    except ConnectionError as error:
        error.__context__ = None
        return error


def test_every_error_behind_an_error_is_cleansed():
    """Causes, contexts and arguments, each once, also where they lead in a circle; not the caller's own."""
    first, second, third, own = (_raised() for _ in range(4))
    first.__cause__, second.__context__ = second, third
    third.args, third.__cause__ = (_raised(), first), own
    grouped = ExceptionGroup("several", [_raised()])
    third.args += (grouped,)
    answer = requests.Response()
    answer.request = requests.Request(
        "GET", "https://api.stripe.com/", {"Authorization": SECRETS["stripe"]}
    )
    second.response = answer
    flight = redirects.Flight()
    flight.credential, flight.handled = Credential(Secret(SECRETS["stripe"])), own
    with pytest.raises(ConnectionError), injection.no_trace(flight):
        raise first
    third.__cause__ = None
    Probes("stripe").error(first)
    assert answer.request.headers == {"Authorization": "<credential>"}
    assert any("evidence" in frame.f_locals for frame, _ in traceback.walk_tb(own.__traceback__))


def test_without_a_credential_nothing_is_touched():
    """A call with the caller's own key keeps its traceback whole."""
    error = _raised()
    with pytest.raises(ConnectionError), injection.no_trace(redirects.Flight()):
        raise error
    assert any("evidence" in frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))


@pytest.mark.parametrize("vendor", ["stripe", "twilio"])
def test_nothing_shows_in_what_aiohttp_raises(server, monkeypatch, caplog, vendor):
    """Its errors have the request among their arguments, and show it in their text."""
    caplog.set_level(logging.DEBUG)
    key = keybrake.issue_vault_key("session-7", cap=20)
    server.answer(200, ANSWERS[vendor], {"Bad\x01Header": "x"})
    done = caller(vendor, "async", key, server.url, monkeypatch)
    if vendor == "stripe":

        async def main():
            http_client = stripe.AIOHTTPClient()
            monkeypatch.setattr(stripe, "default_http_client", http_client)
            try:
                await stripe.PaymentIntent.create_async(amount=500, currency="usd")
            finally:
                await http_client.close_async()

        done = done._replace(call=lambda: asyncio.run(main()))
    with pytest.raises(Exception, match=r"(?i)header|400|network|communicat") as caught:
        done.call()
    probes = Probes(vendor)
    probes.error(caught.value)
    for one in _chain(caught.value):
        logging.getLogger("mine").error("%r", one)
    probes.none_in("the log", caplog.text)
    assert any(hasattr(one, "request_info") for one in _chain(caught.value))


def test_the_callers_own_frames_are_left_alone(server, monkeypatch):
    """What the caller was handling before keeps its locals; only the call's own frames are emptied."""
    key = keybrake.issue_vault_key("session-7", cap=20)
    done = caller("stripe", "sync", key, server.url, monkeypatch)
    server.otherwise = None

    def fails():
        evidence = "still here"
        raise ValueError(evidence)

    try:
        fails()
    except ValueError as first:
        with pytest.raises(stripe.APIConnectionError):
            done.call()
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(first.__traceback__)]
    assert frames[-1] == {"evidence": "still here"}


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_nothing_shows_in_a_cassette(server, monkeypatch, tmp_path, vendor, way):
    """Vcrpy writes down what was sent, without any filter of the user's: all but the credential."""
    key = keybrake.issue_vault_key("session-7", cap=20)
    server.answer(200, ANSWERS[vendor], {"Content-Type": "application/json"})
    done = caller(vendor, way, key, server.url, monkeypatch)
    file = tmp_path / "cassette.yaml"
    with vcr.use_cassette(str(file)) as cassette:
        done.call()
    assert len(server.seen) == len(cassette) == 1
    assert "authorization" in file.read_text().lower()
    Probes(vendor).none_in("the cassette", file.read_text())
    with vcr.use_cassette(str(file), record_mode="none"):
        done.call()
    assert len(server.seen) == 1


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_nothing_shows_where_a_cassette_has_no_such_request(
    server, monkeypatch, tmp_path, caplog, vendor, way
):
    """Vcrpy's complaint carries the request it did not find, and compares its headers if it is asked to."""
    caplog.set_level(logging.DEBUG)
    key = keybrake.issue_vault_key("session-7", cap=20)
    server.answer(200, ANSWERS[vendor], {"Content-Type": "application/json"})
    done = caller(vendor, way, key, server.url, monkeypatch)
    matched = ["method", "uri", "headers"]
    with vcr.use_cassette(str(tmp_path / "c.yaml")):
        done.call()
    probes = Probes(vendor)
    with vcr.use_cassette(str(tmp_path / "c.yaml"), record_mode="none", match_on=matched):
        if vendor == "twilio":  # which takes no idempotency key: all its headers are the same
            done.call()
        else:
            with pytest.raises(Exception, match=r"(?i)cassette|connection|stripe") as caught:
                done.call()
            probes.error(caught.value)
    assert len(server.seen) == 1
    probes.none_in("the debug log", caplog.text)


def test_a_part_of_a_secret_is_a_secret():
    """Rich cuts a long text before it shows it; real keys are longer than that."""
    secret = Secret("sk_live_" + "a1b2c3d4" * 13)
    for part in (secret[:80], secret[8:], secret[0], secret[-1]):
        assert (type(part), repr(part)) == (Secret, "<credential>")
    from rich.pretty import pretty_repr

    assert "a1b2" not in pretty_repr({"secret": secret}, max_string=80)


def test_a_second_thread_sees_the_vault_key(server, monkeypatch):
    """While a call is on the wire, the SDK's globals and the client hold the vault key alone."""
    key = keybrake.issue_vault_key("session-7", cap=20)
    done = caller("twilio", "sync", key, server.url, monkeypatch)
    arrived, go_on = threading.Event(), threading.Event()

    class Waiting(list):
        def pop(self, index):
            arrived.set()
            go_on.wait(20)
            return super().pop(index)

    server.script = Waiting([(200, ANSWERS["twilio"], {})])
    calling = threading.Thread(target=done.call)
    calling.start()
    assert arrived.wait(20)
    client = done.client
    assert (client.password, client.auth, client.username) == (key, (SID, key), SID)
    assert not any(SECRETS["twilio"] in text for text in (repr(client.__dict__), str(client.auth)))
    last = client.http_client._test_only_last_request
    assert SECRETS["twilio"] not in repr(last.auth)
    go_on.set()
    calling.join()


def test_the_scanner_finds_what_is_there():
    """A probe that could find nothing would prove nothing."""
    probes = Probes("stripe")

    def naive():
        header = {"Authorization": f"Bearer {SECRETS['stripe']}"}
        raise ValueError(len(header))

    with pytest.raises(ValueError, match="1") as caught:
        naive()
    with pytest.raises(AssertionError, match="traceback with locals"):
        probes.error(caught.value)
    assert sys.exc_info() == (None, None, None)
    assert gc.isenabled()
