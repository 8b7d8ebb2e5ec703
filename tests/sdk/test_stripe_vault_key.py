"""Does a vault key in the Stripe SDK's key slot stay on this machine?"""

import pytest
import stripe

import keybrake

ASK = {"amount": 2999, "currency": "usd"}


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize("slot", ["module", "client", "call"])
def test_a_vault_key_is_never_sent(fake, ledger_url, rows, client_of, slot, mode):
    """A vault key in the SDK's key slot is refused if there is nothing to take its place."""
    keybrake.configure(extra_hosts={"stripe": [fake.url]})
    with keybrake.run("agent", cap=200, mode=mode) as run:
        # The fixture puts back what stood there before.
        stripe.api_key = run.key if slot == "module" else "sk_test_fake"
        call = {
            "module": lambda: stripe.PaymentIntent.create(**ASK),
            "client": lambda: client_of(fake, run.key).v1.payment_intents.create(ASK),
            "call": lambda: stripe.PaymentIntent.create(**ASK, api_key=run.key),
        }[slot]
        with pytest.raises(keybrake.CredentialUnavailable):
            call()

    assert [row["state"] for row in rows()] == ["refused"]
    assert fake.journal.entries == ()


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize("path", ["/v1/x/../payment_intents", "/v1/payment_intents?a=1"])
def test_a_vault_key_is_never_sent_to_an_odd_path(fake, ledger_url, client_of, path, mode):
    """However much else is wrong with a call, its vault key stays here."""
    with keybrake.run("agent", cap=200, mode=mode) as run:
        client = client_of(fake, run.key)
        with pytest.raises(keybrake.CallRefused):
            client.raw_request("post", path, **ASK)

    assert fake.journal.entries == ()


def test_a_forged_vault_key_is_never_sent(fake, ledger_url):
    """A key with a wrong checksum is refused without a run and without asking the ledger."""
    keybrake.install()
    with pytest.raises(keybrake.CredentialUnavailable):
        stripe.PaymentIntent.create(**ASK, api_key="kb_live_" + "a" * 49)

    assert fake.journal.entries == ()
