"""Does ``keybrake key issue`` make the keys that are asked for, and only those that can be meant."""

import json
import os
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import click
import pytest
import stripe

import keybrake
from keybrake.cli.commands.key import issue
from tests.cli.conftest import command, environment


@pytest.fixture
def here(quick, unmade_ledger):
    """Run commands on this test's ledger."""
    return lambda *words: quick("--ledger", unmade_ledger, *words)


@pytest.fixture
def ledger_file(unmade_ledger, tmp_path):
    """Name the file of this test's ledger."""
    return tmp_path / "ledger.db"


def pay(cents):
    """Spend money at the fake Stripe."""
    stripe.PaymentIntent.create(
        amount=cents, currency="usd", payment_method="pm_card_visa", confirm=True
    )


def test_the_key_alone_is_on_standard_output(cli, ledger_url, fake):
    """A shell takes the output as the key; all else is for a person, with how to end the run."""
    told = cli("key", "issue", "invoice-42", "--cap", "50", KEYBRAKE_LEDGER=ledger_url)

    key = told.out.removesuffix("\n")
    assert told.code == 0
    assert len(key) == 57
    assert key.startswith("kb_live_")
    with keybrake.run(key=key) as run:
        pay(2999)
        with pytest.raises(keybrake.CapExceeded):
            pay(2999)
    first, second = told.err.splitlines()
    assert first.startswith(f"{run.id} (invoice-42): cap $50.00, expires 20")
    assert first.endswith("Z; its key is shown this once")
    assert second == f"end it with: keybrake revoke {run.id}"
    assert key not in told.err


def test_the_words_of_a_person_and_of_a_program_agree_with_the_ledger(here, ledger_url):
    """With --json there is one object, whose amounts and moments are those of the ledger."""
    told = here(
        *("key", "issue", "invoice-42", "--cap", "50", "--daily-cap", "20.5"),
        *("--expires-in", "2h", "--label", "invoices", "--json"),
    )

    run = here("runs", "--json").json[0]
    assert (told.code, told.err) == (0, "")
    assert told.json == {
        "key": told.json["key"],
        "run_id": run["id"],
        "label": "invoices",
        "parent_id": None,
        "cap_micros": 50_000_000,
        "daily_usd_cap_micros": 20_500_000,
        "expires_at": run["expires_at"],
        "ledger": ledger_url,
    }
    with keybrake.run(key=told.json["key"]) as joined:
        assert joined.id == run["id"]


def test_every_option_reaches_the_policy(here):
    """What is said on the command line is what the run is held to."""
    told = here(
        *("key", "issue", "s-1", "--cap", "none", "--max-calls", "7", "--max-amount", "3"),
        *("--allow", "stripe.refunds.create", "--allow", "stripe.charges.*"),
        *("--limit", "stripe.refunds.create:cap=50,max_calls=5,per=1h"),
        *("--limit", "GET stripe:/v1/charges/*:max_calls=9"),
        *("--limit", "meter:outflow:cap=2.50", "--expires-in", "none", "--json"),
    )

    shown = here("show", told.json["run_id"], "--json").json
    assert (shown["cap_micros"], shown["expires_at"]) == (None, None)
    assert (shown["max_calls"], shown["max_amount_micros"]) == (7, 3_000_000)
    assert shown["allow"] == ["stripe.refunds.create", "stripe.charges.*"]
    assert [
        (limit["pattern"], limit["per"], limit["cap_micros"], limit["max_calls"])
        for limit in shown["limits"]
    ] == [
        ("stripe.refunds.create", "1h", 50_000_000, 5),
        ("GET stripe:/v1/charges/*", "run", None, 9),
        ("meter:outflow", "run", 2_500_000, None),
    ]


POLICY = "[policies.refunds]\ncap = 200\ndaily_usd_cap = 30\nexpires_in = 'none'\n"


@pytest.mark.parametrize(
    ("said", "cap", "expires"),
    [
        ([], 200_000_000, False),
        (["--cap", "5"], 5_000_000, False),
        (["--cap", "none", "--expires-in", "1h"], None, True),
    ],
    ids=["as it is", "less", "no cap"],
)
def test_a_policy_of_the_configuration_is_taken(here, tmp_path, said, cap, expires):
    """What is said beside --policy takes its place, also that there is no cap."""
    (tmp_path / "keybrake.toml").write_text(POLICY)

    told = here("key", "issue", "s-1", "--policy", "refunds", *said, "--json").json

    assert (told["cap_micros"], told["daily_usd_cap_micros"]) == (cap, 30_000_000)
    assert (told["expires_at"] is not None) is expires


def test_without_a_word_on_expiry_a_key_lives_an_hour(here):
    """A key that nobody ends does not live for ever."""
    here("key", "issue", "s-1", "--daily-cap", "1")

    run = here("runs", "--json").json[0]
    assert run["cap_micros"] is None
    opened, expires = (datetime.fromisoformat(run[name]) for name in ("opened_at", "expires_at"))
    assert expires - opened == timedelta(hours=1)


WRONG = {
    "no cap": [],
    "only calls": ["--max-calls", "5"],
    "no amount": ["--cap", "many"],
    "negative": ["--cap=-1"],
    "half a call": ["--cap", "1", "--max-calls", "0.5"],
    "no daily amount": ["--daily-cap", "none"],
    "no pattern": ["--cap", "1", "--allow", "refunds"],
    "no endpoint": ["--cap", "1", "--allow", "stripe.refunds.crate"],
    "no limit": ["--cap", "1", "--limit", "cap=5"],
    "limit of nothing": ["--cap", "1", "--limit", "stripe.refunds.create:per=1h"],
    "limit of what": ["--cap", "1", "--limit", "stripe.refunds.create:calls=1"],
    "limit of no number": ["--cap", "1", "--limit", "stripe.refunds.create:max_calls=x"],
    "limit said twice": ["--cap", "1", "--limit", "stripe.refunds.create:cap=1,cap=2"],
    "no endpoint of a limit": ["--cap", "1", "--limit", "stripe.refunds.crate:cap=1"],
    "no window": ["--cap", "1", "--limit", "stripe.refunds.create:cap=1,per=week"],
    "one pattern twice": ["--cap", "1", *(["--limit", "stripe.refunds.create:cap=1"] * 2)],
    "no duration": ["--cap", "1", "--expires-in", "soon"],
    "no label": ["--cap", "1", "--label", ""],
    "no policy": ["--policy", "missing"],
    "unknown option": ["--cap", "1", "--tag", "x"],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(here, ledger_file, words):
    """A wrong option or value ends with status 2, without a key and without a ledger."""
    told = here("key", "issue", "s-1", *words)

    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("keybrake: ")
    assert told.err.count("\n") == 1
    assert "(keybrake key issue --help)" in told.err
    assert not ledger_file.exists()


def test_a_missing_cap_names_the_way_to_say_none(here):
    """Who leaves the cap out is told how to say that there is none."""
    assert "--cap none is no cap, in writing" in here("key", "issue", "s-1").err


def test_a_wrong_configuration_is_no_wrong_usage(here, tmp_path, ledger_file):
    """What keybrake.toml says wrong ends with status 1, and nothing is written."""
    (tmp_path / "keybrake.toml").write_text("[policies.other]\ncap = -1\n")

    told = here("key", "issue", "s-1", "--cap", "1")

    assert (told.code, told.out) == (1, "")
    assert "policies.other: cap=-1 is negative" in told.err
    assert not ledger_file.exists()


def test_a_child_cannot_be_wider(cli, ledger_url, fake):
    """Under KEYBRAKE_VAULT_KEY a key is of a child, and the parent's cap binds whatever is said."""
    parent = keybrake.issue_vault_key("parent", cap=1)
    told = cli(
        *("key", "issue", "child", "--cap", "500", "--expires-in", "none"),
        KEYBRAKE_LEDGER=ledger_url,
        KEYBRAKE_VAULT_KEY=str(parent),
    )

    assert f"child of {parent.run_id}, whose policy binds as well" in told.err
    with keybrake.run(key=told.out.strip()) as child:
        pay(60)
        with pytest.raises(keybrake.CapExceeded):
            pay(60)
    assert cli("runs", "--json", KEYBRAKE_LEDGER=ledger_url).json[0]["spent_micros"] == 600_000
    cli("revoke", parent.run_id, KEYBRAKE_LEDGER=ledger_url)
    with keybrake.run(key=told.out.strip()), pytest.raises(keybrake.RunRevoked):
        pay(1)
    assert child.id != parent.run_id


def test_a_forged_key_of_the_parent_is_refused(cli, ledger_url):
    """Under a key that keybrake did not make there is no child, and none without a parent."""
    told = cli(
        *("key", "issue", "child", "--cap", "5"),
        KEYBRAKE_LEDGER=ledger_url,
        KEYBRAKE_VAULT_KEY="kb_live_" + "0" * 49,
    )

    assert (told.code, told.out) == (1, "")
    assert "checksum is wrong" in told.err
    assert "no run" in cli("show", "child", KEYBRAKE_LEDGER=ledger_url).err


def test_the_ledger_that_is_named_has_the_run_and_ends_it(quick, ledger_file, tmp_path):
    """--ledger goes before KEYBRAKE_LEDGER, and stands in the command that ends the run."""
    other = f"sqlite:///{tmp_path}/other.db"

    told = quick("--ledger", other, "key", "issue", "s-1", "--cap", "1")

    last = told.err.splitlines()[-1]
    assert f"keybrake --ledger {other} revoke run_" in last
    assert not ledger_file.exists()
    uid = last.rpartition(" ")[2]
    assert quick("--ledger", other, "revoke", uid).code == 0
    again = quick("--ledger", other, "revoke", told.out.strip())
    assert again.out == f"{uid} is revoked already (s-1)\n"


def test_a_shell_exports_the_key(tmp_path, ledger_url):
    """``export KEYBRAKE_VAULT_KEY=$(keybrake key issue …)`` makes the next command a child."""
    words = [" ".join(command("key", "issue", name, "--cap", "9")) for name in ("first", "second")]
    script = f"export KEYBRAKE_VAULT_KEY=$({words[0]}) && {words[1]} --json"

    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(tmp_path, KEYBRAKE_LEDGER=ledger_url, PATH=os.environ["PATH"]),
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )

    assert json.loads(done.stdout)["parent_id"].startswith("run_")
    assert b"run_" in done.stderr


def test_a_hostile_label_is_shown_harmlessly(here):
    """The line for a person carries the label without what would act on the terminal."""
    told = here("key", "issue", "x\x1b]0;y\x07\u202e", "--cap", "1")

    assert "(x\\x1b]0;y\\x07\\u202e)" in told.err
    assert "\x1b" not in told.err


def test_without_a_command_the_group_says_so(quick):
    """``keybrake key`` alone is told in one line what is missing."""
    told = quick("key")

    assert (told.code, told.out) == (2, "")
    assert told.err == "keybrake: Missing command. (keybrake key --help)\n"


def test_every_option_is_in_the_reference():
    """The page on the command line names every option of ``key issue``."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    _, _, section = page.read_text("utf-8").partition("| option of `key issue` |")
    named = section.partition("## ")[0]

    options = {param.opts[0] for param in issue.params if isinstance(param, click.Option)}
    assert {option for option in options if f"`{option}" not in named} == set()
