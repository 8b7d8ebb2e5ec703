"""What became of a call whose answer was lost: listed, asked about, settled once."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest
import stripe

import keybrake
from keybrake.testing import Fault

KEY = {"STRIPE_API_KEY": "sk_test_fake"}


def lose_an_answer(fake, kind="timeout_after", *, method="POST", label="lost", **params):
    """Charge once in a run of its own; the vendor carries it out or not, and no answer comes back."""
    fake.inject(Fault(kind, method=method, hang=0.3))
    patient, stripe.default_http_client = (
        stripe.default_http_client,
        stripe.RequestsClient(timeout=0.2),
    )
    sent = {"amount": 2999, "currency": "usd", "payment_method": "pm_card_visa", **params}
    with keybrake.run(label, cap=100) as run, pytest.raises(stripe.APIConnectionError):
        stripe.PaymentIntent.create(**sent, confirm=True)
    stripe.default_http_client.close()
    stripe.default_http_client = patient
    return run


@pytest.fixture
def config(tmp_path, fake):
    """Name the fake as one of Stripe's hosts."""
    (tmp_path / "keybrake.toml").write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
    keybrake.config.settings.set_current(None)


def test_a_lost_answer_is_listed_and_settled_once(cli, ledger_url, fake, config):
    """A charge whose answer timed out counts in full until reconcile settles it at its real cost."""
    run = lose_an_answer(fake)
    listed = cli("--ledger", ledger_url, "unresolved", "--json").json
    assert [(row["label"], row["state"], row["reserved_micros"]) for row in listed] == [
        ("lost", "unknown", 29_990_000)
    ]
    told = cli("--ledger", ledger_url, "reconcile", "--json", **KEY)

    assert [(f["result"], f["cost_micros"]) for f in told.json] == [("settled", 29_990_000)]
    assert (str(run.spent), str(run.reserved)) == ("29.99", "0.00")
    assert len(fake.journal.moved("charge")) == 1
    assert cli("--ledger", ledger_url, "unresolved", "--json").json == []
    assert cli("--ledger", ledger_url, "reconcile", "--json", **KEY).json == []


def test_what_was_found_is_kept_as_evidence(cli, ledger_url, fake, config, rows):
    """The row says how its outcome came to be known, and no longer holds the request."""
    lose_an_answer(fake)
    assert '"amount": 2999' in rows()[0]["request"]
    cli("--ledger", ledger_url, "reconcile", **KEY)

    row = rows()[0]
    assert "answered 200" in row["evidence"]
    assert row["request"] is None
    assert row["object_id"].startswith("pi_")


def test_the_request_of_a_settled_call_is_not_kept(ledger_url, fake, rows):
    """What the agent sent stands in the ledger only as long as its outcome is unknown."""
    with keybrake.run("plain", cap=100):
        stripe.PaymentIntent.create(amount=100, currency="usd", description="for Jane")

    assert "Jane" not in json.dumps(rows())


def test_a_decline_that_was_lost_is_voided(cli, ledger_url, fake, config):
    """A declined charge whose answer was lost costs nothing, once the vendor repeats its no."""
    run = lose_an_answer(fake, payment_method="pm_card_chargeDeclined")
    told = cli("--ledger", ledger_url, "reconcile", "--json", **KEY)

    assert [f["result"] for f in told.json] == ["voided"]
    assert (run.spent, run.reserved) == (0, 0)


def test_nothing_is_repeated_for_a_revoked_run(cli, ledger_url, fake, config):
    """A repeat could carry out now what never arrived: not for a run that somebody ended."""
    run = lose_an_answer(fake, "reset_before")
    cli("--ledger", ledger_url, "revoke", run.id)
    told = cli("--ledger", ledger_url, "reconcile", "--json", **KEY)

    assert [f["result"] for f in told.json] == ["unknown"]
    assert "revoked" in told.json[0]["words"]
    assert fake.journal.moved("charge") == []
    assert str(run.reserved) == "29.99"


def test_nothing_is_repeated_when_only_reading_is_asked_for(cli, ledger_url, fake, config):
    """With --no-repeat a call that no list shows stays as it is."""
    lose_an_answer(fake, "reset_before")
    told = cli("--ledger", ledger_url, "reconcile", "--no-repeat", "--json", **KEY)

    assert [f["result"] for f in told.json] == ["unknown"]
    assert fake.journal.moved("charge") == []


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "set STRIPE_API_KEY"),
        ({"STRIPE_API_KEY": "sk_test_other"}, "another credential"),
    ],
)
def test_without_the_calls_own_credential_nothing_is_asked(
    cli, ledger_url, fake, config, environ, words
):
    """Under another credential the same key would be another call; under none there is no asking."""
    lose_an_answer(fake)
    before = len(fake.journal.entries)
    told = cli("--ledger", ledger_url, "reconcile", "--json", **environ)

    assert [f["result"] for f in told.json] == ["unknown"]
    assert words in told.json[0]["words"]
    assert len(fake.journal.entries) == before


def test_a_credential_goes_to_no_host_the_operator_did_not_name(cli, ledger_url, fake):
    """A call that went to a strange host is not asked about there."""
    lose_an_answer(fake)
    before = len(fake.journal.entries)
    told = cli("--ledger", ledger_url, "reconcile", "--json", **KEY)

    assert "no host of stripe" in told.json[0]["words"]
    assert len(fake.journal.entries) == before


def test_a_vendor_that_does_not_answer_leaves_all_as_it_was(cli, ledger_url, fake, config):
    """No answer is no evidence."""
    run = lose_an_answer(fake)
    fake.stop()
    told = cli("--ledger", ledger_url, "reconcile", "--json", **KEY)

    assert told.code == 0
    assert "did not answer" in told.json[0]["words"]
    assert str(run.reserved) == "29.99"


@contextmanager
def _events_server(key, thing):
    """Serve Stripe's list of events with one that a request under *key* brought about."""
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "payment_intent.succeeded",
        "request": {"id": "req_1", "idempotency_key": key},
        "data": {"object": thing},
    }
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"object": "list", "data": [event], "has_more": False}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_an_event_under_the_calls_key_is_proof_without_repeating(
    cli, ledger_url, fake, tmp_path, rows
):
    """Stripe's events name the idempotency key: the object there settles the call by reading alone."""
    run = lose_an_answer(fake)
    key = cli("--ledger", ledger_url, "unresolved", "--json").json[0]["idempotency_key"]
    intent = {
        "id": "pi_9", "object": "payment_intent", "status": "succeeded", "amount": 2999, "amount_received": 2900,
        "amount_capturable": 0, "currency": "usd",
    }  # fmt: skip
    with _events_server(key, intent) as (url, asked):
        (tmp_path / "keybrake.toml").write_text(f'[vendors.stripe]\nextra_hosts = ["{url}"]\n')
        told = cli(
            "--ledger", ledger_url, "reconcile", "--no-repeat", "--base", f"stripe={url}", **KEY
        )

    assert told.code == 0, told.err
    assert len(asked) == 1
    assert str(run.spent) == "29.00"
    assert rows()[0]["evidence"] == "GET /v1/events answered 200"


def test_a_base_that_is_no_host_of_the_vendor_is_refused(cli, ledger_url, fake):
    """A credential is not sent wherever a command line says."""
    lose_an_answer(fake)
    told = cli("--ledger", ledger_url, "reconcile", "--base", "stripe=https://evil.example", **KEY)

    assert told.code == 2
    assert "no host of the vendor" in told.err


def test_a_person_resolves(cli, ledger_url, fake):
    """One word ends a call; its cost, rounded up, takes the place of the reservation."""
    run = lose_an_answer(fake)
    told = cli("--ledger", ledger_url, "resolve", 1, "--cost", "12.3400001", "--note", "dashboard")

    assert told.out == "call 1 is settled, cost $12.340001\n"
    assert (str(run.spent), str(run.reserved)) == ("12.340001", "0.00")
    again = cli("--ledger", ledger_url, "resolve", 1, "--nothing")
    assert (again.code, again.err) == (1, "keybrake: call 1 has ended already: it is settled\n")


def test_a_person_says_that_nothing_happened(cli, ledger_url, fake):
    """The reservation is given back, and the row says by whom."""
    run = lose_an_answer(fake, "reset_before")
    told = cli("--ledger", ledger_url, "resolve", 1, "--nothing", "--json")

    assert told.json["state"] == "voided"
    assert (run.spent, run.reserved) == (0, 0)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([1], 2, "either --cost USD or --nothing"),
        ([1, "--nothing", "--cost", "1"], 2, "either --cost USD or --nothing"),
        ([1, "--cost", "-1"], 2, "--cost='-1'"),
        ([1, "--cost", "NaN"], 2, "--cost='NaN'"),
        ([0, "--nothing"], 2, "0 is not in the range"),
        (["x", "--nothing"], 2, "not a valid integer"),
        ([99, "--nothing"], 1, "no call 99"),
    ],
)
def test_a_word_that_cannot_be_meant_changes_nothing(cli, ledger_url, fake, words, status, said):
    """What is wrong is said in one line, and the call stays unknown."""
    lose_an_answer(fake)
    told = cli("--ledger", ledger_url, "resolve", *words)

    assert (told.code, said in told.err) == (status, True), told.err
    assert len(cli("--ledger", ledger_url, "unresolved", "--json").json) == 1


def test_people_see_what_is_open(cli, unmade_ledger, fake):
    """The list names the call, what it may have cost, and what to do."""
    assert cli("--ledger", unmade_ledger, "unresolved").err != ""
    lose_an_answer(fake)
    told = cli("--ledger", unmade_ledger, "unresolved")

    assert "stripe.payment_intents.create" in told.out
    assert "1 call may have cost $29.99; keybrake reconcile asks" in told.out


def test_a_run_asks_about_itself(ledger_url, fake, config, monkeypatch):
    """After its block a run reconciles its own calls, and no other's."""
    monkeypatch.chdir(ledger_url.removeprefix("sqlite:///").rpartition("/")[0])
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    mine = lose_an_answer(fake, label="mine")
    other = lose_an_answer(fake, label="other")
    found = mine.reconcile()

    assert [(one.label, one.result) for one in found] == [("mine", "settled")]
    assert (str(mine.spent), str(other.reserved)) == ("29.99", "29.99")
