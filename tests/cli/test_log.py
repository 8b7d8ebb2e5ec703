"""Does ``keybrake log`` show every call in order, also while it happens."""

import json
import signal
import sys

import pytest

import keybrake

KEYS = [
    "seq",
    "at",
    "run_id",
    "label",
    "tool",
    "vendor",
    "endpoint",
    "method",
    "path",
    "state",
    "reason",
    "reserved_micros",
    "cost_micros",
    "amount",
    "currency",
    "object_id",
    "http_status",
    "duration_ms",
    "would_refuse",
]


def test_json_lines_are_complete(cli, books):
    """Every call is there in order, with exactly the documented keys."""
    told = cli("--ledger", books.url, "log", "--json")

    rows = told.json_lines
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["state"] for row in rows[:7]] == [
        "settled",
        "settled",
        "voided",
        "refused",
        "unknown",
        "unguarded",
        "settled",
    ]
    assert all(c == "\n" or (c.isascii() and c.isprintable()) for c in told.out)


def test_a_row_says_what_happened(quick, books):
    """A call carries its run, tool, amount as sent, cost and what the vendor answered."""
    row = quick("--ledger", books.url, "log", "--json", "--limit", "1", "--state", "refused").json

    assert row["run_id"] == books.ids["invoice"]
    assert (row["label"], row["tool"], row["vendor"]) == ("invoice-agent", None, "stripe")
    assert (row["endpoint"], row["method"], row["path"]) == (
        "stripe.payment_intents.create",
        "POST",
        "/v1/payment_intents",
    )
    assert (row["reason"], row["amount"], row["currency"]) == ("cap_exceeded", 9999, "usd")
    assert (row["reserved_micros"], row["cost_micros"], row["http_status"]) == (0, None, None)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--limit", "2"], [12, 13]),
        (["--limit", "0"], []),
        (["--limit", "99"], list(range(1, 14))),
        (["--run", "child-agent"], [7]),
        (["--state", "voided"], [3]),
        (["--endpoint", "stripe.refunds.*"], [2]),
        (["--endpoint", "POST stripe:/v1/refunds"], [2]),
        (["--endpoint", "stripe.*.create", "--run", "invoice-agent", "--limit", "2"], [4, 5]),
        (["--endpoint", "twilio.messages.create"], []),
    ],
)
def test_options_choose_calls(quick, books, options, numbers):
    """Run, state and endpoint choose, and a limit keeps the newest of what is chosen."""
    rows = quick("--ledger", books.url, "log", "--json", *options).json_lines

    assert [row["seq"] for row in rows] == numbers


def test_people_get_a_harmless_table(cli, at_terminal, books):
    """Rows are aligned, whole in a pipe, cut to the terminal, and do nothing to it."""
    piped = cli("--ledger", books.url, "log").out
    seen = at_terminal("--ledger", books.url, "log", columns=90, NO_COLOR="1").out

    for shown in (piped, seen):
        assert len(shown.splitlines()) == 1 + 13
        assert all(c == "\n" or c.isprintable() for c in shown)
    assert "unguarded" in piped
    assert "a test of the log" in piped
    assert "($7.00)" in piped
    assert max(map(len, seen.splitlines())) <= 90
    assert "\x1b[" in at_terminal("--ledger", books.url, "log").out


AGENT = """
import sys, keybrake, stripe
stripe.api_key, stripe.api_base = "sk_test_agent", sys.argv[1]
with keybrake.run(key=sys.argv[2]):
    stripe.PaymentIntent.create(amount=1234, currency="usd")
"""


@pytest.mark.parametrize("options", [[], ["--run", "watched"], ["--state", "settled"]])
def test_follow_sees_what_another_process_writes(start, ledger_url, fake, options):
    """A new call of another process is shown as it happens, and once more when it has ended."""
    key = keybrake.issue_vault_key("watched", cap=50)
    follower = start("--ledger", ledger_url, "log", "--follow", "--json", *options)
    agent = [sys.executable, "-c", AGENT, fake.url, str(key)]
    start(argv=agent, KEYBRAKE_LEDGER=ledger_url)

    row = json.loads(follower.stdout.readline())
    while row["state"] != "settled":
        row = json.loads(follower.stdout.readline())

    assert (row["label"], row["amount"], row["cost_micros"]) == ("watched", 1234, 12_340_000)
    follower.send_signal(signal.SIGINT)
    assert follower.wait() == 130


def test_follow_shows_a_call_again_when_it_ends(start, ledger_url):
    """A call that is in flight when following begins is shown in flight, and then ended."""
    ledger, admitted = _in_flight(ledger_url)
    follower = start("--ledger", ledger_url, "log", "-f", "--json")

    first = json.loads(follower.stdout.readline())
    _end(ledger, admitted)
    second = json.loads(follower.stdout.readline())

    assert (first["seq"], first["state"], first["cost_micros"]) == (1, "reserved", None)
    assert (second["seq"], second["state"], second["cost_micros"]) == (1, "settled", 7_000_000)


def _in_flight(ledger_url):
    from keybrake.ledger import Admission
    from keybrake.model.call import Call, Effect

    key = keybrake.issue_vault_key("slow", cap=10)
    ledger = keybrake.open_ledger(ledger_url)
    call = Call(
        "stripe",
        "stripe.payment_intents.create",
        "POST",
        "/v1/payment_intents",
        Effect.MONEY,
        amount=700,
        currency="usd",
        value_micros=7_000_000,
    )
    scopes = (ledger.runs(key.run_id)[0].pk,)
    return ledger, ledger.admit(Admission("call", call, scopes))


def _end(ledger, admitted):
    from keybrake.model.call import Outcome, State

    ledger.settle(admitted, Outcome(State.SETTLED))


def test_follow_ends_when_nobody_reads(start, books):
    """A follower whose reader has gone ends by itself, even if nothing new happens."""
    follower = start("--ledger", books.url, "log", "--follow")
    follower.stdout.readline()

    follower.stdout.close()

    assert follower.wait(timeout=10) == 0
    assert follower.stderr.read() == ""


def test_follow_notices_another_file(start, tmp_path, books):
    """A ledger that is replaced while it is followed ends the command with an error."""
    path = tmp_path / "copy.db"
    path.write_bytes(books.path.read_bytes())
    path.chmod(0o600)
    follower = start("--ledger", f"sqlite:///{path}", "log", "--follow", "--limit", "1")
    follower.stdout.readline()

    other = tmp_path / "other.db"
    other.write_bytes(books.path.read_bytes())
    other.replace(path)

    assert follower.wait(timeout=10) == 1
    assert "replaced by another file" in follower.stderr.read()
