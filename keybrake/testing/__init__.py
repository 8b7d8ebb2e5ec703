"""Fake vendors on loopback, to try agents and guards on without moving money."""

from keybrake.testing._faults import Fault
from keybrake.testing._journal import Journal, JournalEntry
from keybrake.testing._resend.fake import FakeResend
from keybrake.testing._stripe.fake import FakeStripe
from keybrake.testing._twilio.fake import FakeTwilio

__all__ = ["FakeResend", "FakeStripe", "FakeTwilio", "Fault", "Journal", "JournalEntry"]
