"""Run fake vendors on loopback, to test agents and guards without moving money."""

from keybrake.testing.fake_resend.fake import FakeResend
from keybrake.testing.fake_stripe.fake import FakeStripe
from keybrake.testing.fake_twilio.fake import FakeTwilio
from keybrake.testing.faults import Fault
from keybrake.testing.journal import Journal, JournalEntry

__all__ = ["FakeResend", "FakeStripe", "FakeTwilio", "Fault", "Journal", "JournalEntry"]
