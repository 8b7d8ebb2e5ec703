"""Is a vault key worth what it says: random, checked offline, and kept nowhere?"""

import copy
import os
import pickle
import re
import sqlite3
from collections.abc import Callable
from contextvars import Context
from decimal import Decimal
from pathlib import Path

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

import keybrake
from keybrake import Limit, Policy, PolicyError
from keybrake.ledger import RunRecord
from keybrake.model import clock, vault_key
from keybrake.model.vault_key import VaultKey


def pay(dollars: int = 1) -> None:
    """Charge through the real SDK."""
    stripe.PaymentIntent.create(amount=dollars * 100, currency="usd")


def record(key: VaultKey) -> RunRecord:
    """Return the run a key stands for, as the ledger has it."""
    return keybrake.open_ledger().runs(key.run_id)[0]


# The token


def test_a_key_has_the_shape_scanners_look_for():
    """``kb_live_``, 43 and 6 characters of base 62, 57 in all."""
    key = vault_key.make()

    assert re.fullmatch(r"kb_live_[0-9A-Za-z]{49}", key)
    assert len(key) == 57
    assert vault_key.is_wellformed(key)


def test_no_two_keys_are_alike():
    """Keys are random from end to end."""
    assert len({vault_key.make()[8:51] for _ in range(500)}) == 500


@given(st.integers(8, 56), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcxyz"))
def test_one_wrong_character_is_told_without_the_ledger(place, character):
    """The checksum finds a changed character anywhere behind the prefix."""
    key = "kb_live_" + "0" * 43 + vault_key._checksum("0" * 43)
    forged = key[:place] + character + key[place + 1 :]

    assert vault_key.is_wellformed(forged) is (forged == key)


@pytest.mark.parametrize("text", ["", "kb_live_", "kb_live_" + "0" * 49, "kb_test_" + "0" * 49])
def test_what_is_no_key_is_told(text):
    """Texts without the shape or checksum are no keys, and neither is a key with a line end."""
    assert not vault_key.is_wellformed(text)
    assert not vault_key.is_wellformed(vault_key.make() + "\n")


def test_a_key_is_a_string_that_does_not_show_itself():
    """Its repr is redacted; as a string it is whole."""
    key = VaultKey(vault_key.make(), "run_1")

    assert str(key) == key
    assert str(key) not in repr([key])
    assert str(key) not in f"{key!r}"
    assert "run_1" in repr(key)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))]
)
def test_a_key_copies_and_pickles(again: Callable[[VaultKey], VaultKey]):
    """It stays a vault key that knows its run."""
    key = VaultKey(vault_key.make(), "run_1")

    assert (again(key), again(key).run_id, type(again(key))) == (key, "run_1", VaultKey)


# Issuing


def test_a_key_stands_for_a_run_that_no_block_closes(ledger_url, fake):
    """Joined twice, it is open still, and both blocks charged the same run."""
    key = keybrake.issue_vault_key("caller-7", cap=5)
    for _ in range(2):
        with keybrake.run(key=key) as run:
            pay()

    assert (run.id, run.label, run.state) == (key.run_id, "caller-7", "open")
    assert (run.spent, run.calls) == (Decimal(2), 2)


def test_the_ledger_keeps_only_a_hash(ledger_url, tmp_path):
    """Neither the key nor its secret part stands in any of the ledger's files."""
    key = keybrake.issue_vault_key("caller-7", cap=5)
    files = [path for path in tmp_path.iterdir() if path.is_file()]

    assert files
    assert all(key[8:51].encode() not in path.read_bytes() for path in files)
    assert any(vault_key.digest(key) in path.read_bytes() for path in files)


def test_label_goes_before_session_id(ledger_url):
    """The label is what the call log calls it; by default that is the id of the caller."""
    assert record(keybrake.issue_vault_key("s-1", cap=1)).label == "s-1"
    assert record(keybrake.issue_vault_key("s-1", cap=1, label="agent")).label == "agent"


def test_a_key_lives_for_an_hour(ledger_url):
    """Unless something else is said."""
    run = record(keybrake.issue_vault_key("s-1", cap=1))

    assert run.expires_at - run.opened_at == clock.HOUR


def test_a_key_under_a_policy_lives_as_long_as_the_policy_says(ledger_url):
    """The expiry of a policy is not widened by a default nobody wrote."""
    policy = Policy(cap=5, expires_in="10m")

    run = record(keybrake.issue_vault_key("s-1", policy=policy))

    assert run.expires_at - run.opened_at == 10 * clock.MINUTE


def test_what_is_said_beside_a_policy_takes_its_place(ledger_url):
    """Fields given to the call go before those of the policy."""
    policy = Policy(cap=5, max_calls=3)

    run = record(keybrake.issue_vault_key("s-1", policy=policy, cap=2, expires_in="5m"))

    assert (run.cap, run.expires_at - run.opened_at) == (2_000_000, 5 * clock.MINUTE)


def test_a_key_carries_every_limit(ledger_url, fake):
    """Daily cap, calls, amount, allowlist and limits bind whoever has the key."""
    limits = {"stripe.payment_intents.create": Limit(cap=2, per="hour")}
    key = keybrake.issue_vault_key(
        "s-1", daily_usd_cap=3, max_calls=9, max_amount=1, allow=[*limits], limits=limits
    )
    with keybrake.run(key=key):
        pay(1)
        pay(1)
        with pytest.raises(keybrake.AmountTooLarge):
            pay(2)
        with pytest.raises(keybrake.EndpointNotAllowed):
            stripe.Balance.retrieve()
        with pytest.raises(keybrake.CapExceeded, match="per hour"):
            pay(1)


def test_a_key_issued_in_a_run_is_its_child(ledger_url, fake):
    """Far from the run, its cap still binds the key."""
    with keybrake.run("boss", cap=2) as boss:
        key = keybrake.issue_vault_key("worker", cap=100)

        def work() -> None:
            with keybrake.run(key=key):
                pay(2)
                with pytest.raises(keybrake.CapExceeded, match="parent run 'boss'"):
                    pay(1)

        # A context of its own stands for another process: the run is not around it.
        Context().run(work)

    assert record(key).parent_uid == boss.id
    assert boss.spent == 2


def test_a_key_for_another_ledger_is_no_child_of_some_stranger(ledger_url, tmp_path):
    """A run of one ledger cannot be the parent of a run in another; that is told."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    strangers = keybrake.open_ledger(other)
    with keybrake.run("stranger", cap=1, ledger=other):
        pass
    with keybrake.run("boss", cap=1), pytest.raises(PolicyError, match="ledger"):
        keybrake.issue_vault_key("worker", cap=100, ledger=other)

    assert [run.label for run in strangers.runs()] == ["stranger"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"daily_usd_cap": None},
        {"max_calls": 5},
        {"max_amount": 5, "allow": ["stripe.refunds.create"]},
        {"limits": {"stripe.refunds.create": Limit(cap=5)}},
        {"expires_in": "5m", "label": "agent"},
    ],
)
def test_a_key_without_a_cap_is_not_issued(unmade_ledger, tmp_path, said):
    """A key needs a cap, a daily cap or a policy, and the error names all three and ``cap=None``."""
    with pytest.raises(PolicyError) as refused:
        keybrake.issue_vault_key("s-1", **said)

    assert str(refused.value).startswith("cap is missing; say an amount in USD, a daily_usd_cap or")
    assert "or cap=None for no cap, in writing" in str(refused.value)
    assert not (tmp_path / "ledger.db").exists()


def test_a_key_inside_a_run_needs_a_cap_of_its_own(ledger_url):
    """The cap of the run around it does not take the place of one that was left out."""
    with keybrake.run("boss", cap=2), pytest.raises(PolicyError, match="cap is missing"):
        keybrake.issue_vault_key("worker")


@pytest.mark.parametrize(
    "said", [{"cap": None}, {"daily_usd_cap": 3}, {"cap": None, "policy": Policy(cap=5)}]
)
def test_no_cap_in_writing_is_allowed(ledger_url, said):
    """``cap=None`` means no cap, also beside a policy, and a daily cap needs no other beside it."""
    assert record(keybrake.issue_vault_key("s-1", **said)).cap is None


@pytest.mark.parametrize(
    "bad",
    [
        {"session_id": ""},
        {"session_id": "a" * 201},
        {"session_id": 5},
        {"session_id": "\ud800"},
        {"label": ""},
        {"cap": True},
        {"daily_usd_cap": "1_000"},
        {"max_calls": -1},
        {"max_amount": "٣"},
        {"allow": ["*"]},
        {"allow": ["stripe.refund.create"]},
        {"limits": {"stripe.refunds.create": 5}},
        {"expires_in": "1mo"},
        {"expires_in": True},
        {"policy": "nobody"},
        {"policy": 5},
        {"ledger": "postgres"},
    ],
    ids=str,
)
def test_a_key_that_cannot_be_meant_is_not_issued(unmade_ledger, tmp_path, bad):
    """A bad argument is a PolicyError, and no ledger comes into being."""
    with pytest.raises(PolicyError):
        keybrake.issue_vault_key(**{"session_id": "s-1", **bad})

    assert not (tmp_path / "ledger.db").exists()


def test_a_key_in_the_environment_guards_a_process_without_a_run(ledger_url, fake, monkeypatch):
    """The ambient key stands for its run wherever no run is around the call."""
    key = keybrake.issue_vault_key("ambient", cap=2)
    monkeypatch.setenv("KEYBRAKE_VAULT_KEY", str(key))
    pay(2)
    with pytest.raises(keybrake.CapExceeded):
        pay(1)

    assert record(key).spent == 2_000_000


def test_an_unknown_key_in_the_environment_refuses(ledger_url, fake, monkeypatch):
    """A well-formed key that the ledger does not know, and a forged one, let nothing out."""
    keybrake.install()
    for key in (vault_key.make(), "kb_live_" + "0" * 49, "sk_live_something"):
        monkeypatch.setenv("KEYBRAKE_VAULT_KEY", key)
        with pytest.raises(keybrake.CredentialUnavailable, match="Nothing was sent") as refused:
            pay()
        assert key not in str(refused.value)

    assert not fake.journal.entries


@pytest.mark.parametrize(
    "key",
    ["kb_live_" + "0" * 49, "", "sk_live_x", "kb_live_" + "é" * 49],
    ids=["checksum", "empty", "other", "letters"],
)
def test_a_forged_key_joins_nothing_and_asks_no_ledger(unmade_ledger, tmp_path, key):
    """A wrong checksum is told without a ledger coming into being."""
    with pytest.raises(keybrake.KeybrakeError), keybrake.run(key=key):
        pass

    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize("key", [5, b"kb_live_", ["kb"]], ids=str)
def test_a_key_that_is_no_text_is_a_policy_error(ledger_url, key):
    """What is no key at all is told when it is said."""
    with pytest.raises(keybrake.PolicyError, match="key"), keybrake.run(key=key):
        pass


def test_a_key_is_not_shown_by_its_run(ledger_url):
    """Neither the run that made a key nor one that joined by it shows it."""
    with keybrake.run("a", cap=1) as run:
        assert str(run.key) not in repr(run) + repr(vars(run))
    with keybrake.run(key=run.key) as joined:
        assert str(run.key) not in repr(joined) + repr(vars(joined))


def test_the_database_refuses_a_second_run_with_one_key(ledger_url, tmp_path):
    """Two runs never share a hash."""
    key = keybrake.issue_vault_key("s-1", cap=1)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO scope (uid, kind, label, key_hash, mode, terms, opened_at) "
            "VALUES ('x', 'run', 'x', ?, 'enforce', '[]', 0)",
            (vault_key.digest(key),),
        )
    connection.close()


def test_files_of_a_ledger_are_the_owners_alone(ledger_url, tmp_path):
    """Whatever the umask, group and others read nothing."""
    before = os.umask(0)
    try:
        keybrake.issue_vault_key("s-1", cap=1)
    finally:
        os.umask(before)
    files = [path for path in Path(tmp_path).iterdir() if path.is_file()]

    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_run_in_a_process_under_a_key_stands_under_that_keys_run(ledger_url, fake, monkeypatch):
    """Whoever started the process under a key meant every run in it, and every key it issues."""
    operator = keybrake.issue_vault_key("operator", cap=10)
    monkeypatch.setenv("KEYBRAKE_VAULT_KEY", operator)
    with keybrake.run("agent", cap=500) as run, pytest.raises(keybrake.CapExceeded) as caught:
        stripe.PaymentIntent.create(amount=4000, currency="usd")
    assert caught.value.scope == f"parent {operator.run_id} cap"
    assert keybrake.open_ledger().runs(run.id)[0].parent_uid == operator.run_id

    issued = keybrake.issue_vault_key("inner", cap=500)
    monkeypatch.delenv("KEYBRAKE_VAULT_KEY")
    with keybrake.run(key=issued), pytest.raises(keybrake.CapExceeded):
        stripe.PaymentIntent.create(amount=4000, currency="usd")


def test_a_joined_run_stands_under_the_ambient_key_as_well(ledger_url, fake, monkeypatch):
    """A wider key that somebody hands to the agent does not lift what its process is under."""
    wider = keybrake.issue_vault_key("wider", cap=500)
    monkeypatch.setenv("KEYBRAKE_VAULT_KEY", keybrake.issue_vault_key("operator", cap=10))
    with keybrake.run(key=wider), pytest.raises(keybrake.CapExceeded):
        stripe.PaymentIntent.create(amount=4000, currency="usd")


def test_a_forged_ambient_key_opens_no_run(ledger_url, monkeypatch):
    """A process whose key means nothing cannot open a run of its own instead."""
    monkeypatch.setenv("KEYBRAKE_VAULT_KEY", "kb_live_" + "x" * 49)
    with pytest.raises(keybrake.CredentialUnavailable), keybrake.run("agent", cap=500):
        pass
