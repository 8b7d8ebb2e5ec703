"""Does ``keybrake show`` show one run in full."""

import pytest

import keybrake


def test_json_holds_the_whole_run(cli, books):
    """Policy, limits with what their window has used, tools, parents and last calls are there."""
    told = cli("--ledger", books.url, "show", books.ids["invoice"], "--json")

    run = told.json
    assert (run["label"], run["mode"], run["max_calls"], run["allow"]) == (
        "invoice-agent",
        "enforce",
        50,
        None,
    )
    assert run["limits"] == [
        {
            "pattern": "stripe.refunds.create",
            "per": "1h",
            "cap_micros": 50_000_000,
            "max_calls": 5,
            "spent_micros": 5_000_000,
            "reserved_micros": 0,
            "calls": 1,
        }
    ]
    assert run["tools"] == [
        {
            "tool": "payer",
            "spent_micros": 29_990_000,
            "reserved_micros": 0,
            "calls": 1,
            "refused": 0,
        }
    ]
    assert [call["state"] for call in run["last_calls"]] == [
        "settled",
        "settled",
        "voided",
        "refused",
        "unknown",
        "unguarded",
    ]


def test_a_child_names_what_it_stands_under(quick, books):
    """The runs that bind a child are listed with what is left of them."""
    run = quick("--ledger", books.url, "show", "child-agent", "--json").json

    assert run["parents"] == [
        {
            "id": books.ids["invoice"],
            "label": "invoice-agent",
            "state": "closed",
            "remaining_micros": 57_010_000,
        }
    ]


def test_people_read_policy_and_use(cli, at_terminal, books):
    """A person sees caps, use, limits, tools and calls; at a terminal also a bar."""
    plain = cli("--ledger", books.url, "show", "invoice-agent").out
    seen = at_terminal("--ledger", books.url, "show", "invoice-agent").out

    for words in ("$100.00", "stripe.refunds.create", "1 of 5", "payer", "a test of the log"):
        assert words in plain
    assert "█" in seen
    assert "\x1b[" in seen


@pytest.mark.parametrize("said", ["id", "prefix", "label"])
def test_a_run_is_found_by_id_prefix_or_label(quick, books, said):
    """An id, the beginning of one and a label that only one run has all mean the run."""
    uid = books.ids["paused"]
    word = {"id": uid, "prefix": uid[:14], "label": "paused"}[said]

    assert quick("--ledger", books.url, "show", word, "--json").json["id"] == uid


def test_a_run_is_found_by_its_vault_key(quick, ledger_url):
    """A vault key means its run, and a wrong one is not shown again."""
    key = keybrake.issue_vault_key("keyed", cap=1)

    assert quick("--ledger", ledger_url, "show", key, "--json").json["id"] == key.run_id

    told = quick("--ledger", ledger_url, "show", key[:-1] + "!")

    assert told.code == 1
    assert "kb_" not in told.err


def test_an_ambiguous_label_lists_the_runs(cli, books):
    """A label of two runs is refused with the ids to choose from."""
    told = cli("--ledger", books.url, "show", "twin")

    assert (told.code, told.out) == (1, "")
    assert books.ids["twin 1"] in told.err
    assert books.ids["twin 2"] in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("said", ["nobody", "run_", "run_%", "", "\x1b[31m"])
def test_an_unknown_run_is_an_error(quick, books, said):
    """What means no run is told in one harmless line."""
    told = quick("--ledger", books.url, "show", said)

    assert (told.code, told.out) == (1, "")
    assert told.err.count("\n") == 1
    assert "\x1b" not in told.err
