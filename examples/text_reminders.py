"""
What may an agent text: reminders under a cap, whose prices come later.

    python examples/text_reminders.py

Twilio names the price of a message only after it was sent, so keybrake counts an estimate until then.
Run it as it is and it talks to a fake Twilio. With ``TWILIO_ACCOUNT_SID``, ``TWILIO_AUTH_TOKEN`` and
``TWILIO_FROM`` set it sends real messages, to the numbers in ``APPOINTMENTS``: put your own there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twilio.rest import Client

import keybrake
from keybrake.testing import FakeTwilio

APPOINTMENTS = {
    "+14155550101": "See you at ten.",
    "+14155550102": "Vielen Dank, bis morgen um zehn Uhr! 👍",
    "+14155550103": "Please read this before you come. " * 12,
    "+447700900104": "See you at eleven.",
}
# USD for one part of a message, by the beginning of the number. Nobody wrote down a price for +44.
PRICES = {"sms_segment": {"+1": "0.0145"}}


def remind(client: Any, sender: str) -> list[str]:
    """Text every appointment that the run allows, and return what was sent."""
    sent = []
    for number, text in APPOINTMENTS.items():
        try:
            message = client.messages.create(to=number, from_=sender, body=text)
        except keybrake.CallRefused as refusal:
            print(f"{number}: REFUSED ({refusal.reason})")
        else:
            print(f"{number}: {message.status}")
            sent.append(message.sid)
    return sent


@contextlib.contextmanager
def somewhere_to_send() -> Iterator[tuple[Any, str, FakeTwilio | None]]:
    """Return a client and a sender: of a fake Twilio, where none is named."""
    with contextlib.ExitStack() as stack:
        if "KEYBRAKE_LEDGER" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            keybrake.configure(ledger=f"sqlite:///{Path(folder) / 'ledger.db'}")
        if "TWILIO_AUTH_TOKEN" in os.environ:
            yield Client(), os.environ["TWILIO_FROM"], None
        else:
            fake = stack.enter_context(FakeTwilio())
            yield fake.client(), "+14155550100", fake


def main() -> None:
    """Send reminders for at most 10 cents, and see what they did cost."""
    keybrake.configure(prices={"twilio": PRICES})
    with (
        somewhere_to_send() as (client, sender, fake),
        keybrake.run("reminders", cap="0.10") as run,
    ):
        sent = remind(client, sender)
        print(f"\nestimated: ${run.spent}")
        if fake is not None:
            fake.finish()  # Twilio takes minutes to hours for this
        for sid in sent:
            client.messages(sid).fetch()
        print(f"by now:    ${run.spent}, {run.calls} calls, {run.refused} refused")


if __name__ == "__main__":
    main()
