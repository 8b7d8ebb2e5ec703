"""Do ``keybrake revoke``, ``pause`` and ``resume`` stop the runs that are meant, and only those."""

import sys

import pytest

import keybrake


@pytest.fixture
def keys(ledger_url):
    """Open three runs that any process may join."""
    return [keybrake.issue_vault_key(f"agent {n}", cap=5) for n in range(3)]


def states(quick):
    """Return the states of all runs, oldest first."""
    return [run["state"] for run in quick("runs", "--json").json]


@pytest.fixture
def here(quick, ledger_url):
    """Run commands on this test's ledger."""
    return lambda *words: quick("--ledger", ledger_url, *words)


def test_revoke_ends_runs_and_says_so(here, keys):
    """Each run is revoked, with a line for each; a second time is quiet and says already."""
    told = here("revoke", keys[0].run_id, "agent 2")

    assert told.code == 0
    assert told.out == (
        f"{keys[0].run_id} is revoked (agent 0)\n{keys[2].run_id} is revoked (agent 2)\n"
    )
    assert states(here) == ["revoked", "open", "revoked"]

    again = here("revoke", keys[0].run_id, keys[0].run_id)

    assert (again.code, again.err) == (0, "")
    assert again.out == f"{keys[0].run_id} is revoked already (agent 0)\n"


def test_pause_and_resume(here, keys):
    """A paused run goes on after resume, and both may be said twice."""
    here("pause", "agent 0", "agent 1")
    assert here("pause", "agent 0").code == 0
    assert states(here) == ["paused", "paused", "open"]

    told = here("resume", "agent 0", "agent 2", "--json")

    assert [(run["label"], run["state"]) for run in told.json] == [
        ("agent 0", "open"),
        ("agent 2", "open"),
    ]
    assert states(here) == ["open", "paused", "open"]


@pytest.mark.parametrize("verb", ["revoke", "pause", "resume"])
def test_one_wrong_run_and_nothing_is_written(here, keys, verb):
    """If one of several runs cannot be found, none of them is touched."""
    told = here(verb, "agent 0", "agent 1", "nobody")

    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("keybrake: no run matches 'nobody' in ")
    assert told.err.endswith("; keybrake runs lists them\n")
    assert states(here) == ["open"] * 3


def test_every_run_of_a_label(here, keys, ledger_url):
    """The same agent may have been started many times; those of another label go on."""
    twins = [keybrake.issue_vault_key("agent 1", cap=5) for _ in range(2)]
    here("revoke", twins[0].run_id)
    assert "matches 3 runs" in here("pause", "agent 1").err

    told = here("pause", "--label", "agent 1", "--label", "agent 2", "agent 2", "--json")

    assert [run["label"] for run in told.json] == ["agent 2", "agent 1", "agent 1"]
    assert states(here) == ["open", "paused", "paused", "revoked", "paused"]
    assert here("revoke", "--label", "agent 1").out.count("is revoked (agent 1)") == 2
    assert here("revoke", "--label", "agent 1").out == (
        "there is no run left to revoke: all of them have ended\n"
    )
    wrong = here("revoke", "--label", "agent 0", "--label", "agnet 2")
    assert (wrong.code, wrong.out) == (1, "")
    assert "no run has the label 'agnet 2'" in wrong.err
    assert states(here) == ["open", "revoked", "paused", "revoked", "revoked"]


def test_every_run_there_is(here, keys):
    """The plug: whatever has not ended is stopped, and said."""
    here("revoke", "agent 0")
    assert here("pause", "--all").out.count("is paused") == 2
    assert here("resume", "--all").out.count("is open") == 2
    assert here("revoke", "--all").out.count("is revoked (agent") == 2
    assert states(here) == ["revoked"] * 3
    assert here("revoke", "--all", "--json").json == []


def test_nothing_is_meant_by_nothing(here, keys):
    """Neither all runs nor none: which ones has to be said."""
    told = here("revoke")
    assert (told.code, told.out) == (2, "")
    assert "say which run: RUN, --label LABEL or --all" in told.err
    assert states(here) == ["open"] * 3


def test_a_mistake_in_the_configuration_stops_nobody_who_stops_an_agent(
    cli, keys, ledger_url, tmp_path
):
    """Where the ledger is named, a run can be ended; elsewhere the mistake is told."""
    (tmp_path / "keybrake.toml").write_text('[credentials]\nresend = "nonsense"\n')
    named = {"KEYBRAKE_LEDGER": ledger_url}

    told = cli("revoke", "agent 0", **named)
    assert (told.code, told.out) == (0, f"{keys[0].run_id} is revoked (agent 0)\n")
    assert "credentials: resend" in told.err.replace(".", ": ")
    assert told.err.endswith("; going on with --ledger\n")
    assert cli("--ledger", ledger_url, "pause", "agent 1").code == 0
    assert cli("revoke", "agent 2", KEYBRAKE_CONFIG="nowhere.toml", **named).code == 0
    assert cli("revoke", "agent 2").code == 1
    for words in (
        ("runs",),
        ("log",),
        ("spend",),
        ("show", "agent 0"),
        ("verify",),
        ("unresolved",),
    ):
        told = cli(*words, **named)
        assert (told.code, told.out) == (1, "")
        assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_has_ended_stays_ended(here, keys, verb):
    """A revoked run can be neither paused nor resumed, and its neighbours are not touched."""
    here("revoke", "agent 1")

    told = here(verb, "agent 0", "agent 1")

    assert told.code == 1
    assert f"is revoked and cannot be {verb}d; nothing was changed" in told.err
    assert states(here) == ["open", "revoked", "open"]


def test_a_leaked_key_revokes_its_run_and_is_not_shown(here, keys):
    """A vault key names its run, and never appears in what is printed."""
    told = here("revoke", str(keys[1]))

    assert states(here) == ["open", "revoked", "open"]
    assert "kb_live" not in told.out + told.err


def test_a_tool_of_a_run_is_no_run(here, books, quick):
    """The name of a tool's scope means no run, so nobody believes to have stopped it."""
    told = quick("--ledger", books.url, "revoke", f"{books.ids['invoice']}:payer")

    assert told.code == 1


def test_a_hostile_label_is_shown_harmlessly(here, ledger_url):
    """The line about a run carries its label without what would act on the terminal."""
    key = keybrake.issue_vault_key("x\x1b]0;y\x07\n\u202e", cap=1)

    assert here("revoke", key.run_id).out == (
        f"{key.run_id} is revoked (x\\x1b]0;y\\x07\\n\\u202e)\n"
    )


AGENT = """
import sys, time, keybrake, stripe
stripe.api_key, stripe.api_base = "sk_test_agent", sys.argv[1]
end = time.monotonic() + 30
with keybrake.run(key=sys.argv[2]):
    try:
        while time.monotonic() < end:
            stripe.PaymentIntent.create(amount=1, currency="usd")
            print("sent", flush=True)
            time.sleep(0.02)
    except stripe.PermissionError as refusal:
        print(type(refusal).__name__, flush=True)
"""


def test_another_terminal_stops_an_agent_that_loops(start, cli, ledger_url, keys, fake):
    """The next call of a revoked run is refused in its process, while another run goes on."""
    agents = [
        start(argv=[sys.executable, "-c", AGENT, fake.url, str(key)], KEYBRAKE_LEDGER=ledger_url)
        for key in keys[:2]
    ]
    for agent in agents:
        assert agent.stdout.readline() == "sent\n"

    assert cli("--ledger", ledger_url, "revoke", keys[0].run_id).code == 0

    assert agents[0].communicate()[0].splitlines()[-1] == "RunRevoked"
    made = cli("--ledger", ledger_url, "runs", "--json").json[0]["calls"]
    assert agents[1].poll() is None
    assert agents[1].stdout.readline() == "sent\n"
    assert cli("--ledger", ledger_url, "runs", "--json").json[0]["calls"] == made
