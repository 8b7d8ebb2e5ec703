"""Fake vendors on loopback, to try agents and guards on without moving money."""

from keybrake.testing._faults import Fault
from keybrake.testing._journal import Journal, JournalEntry
from keybrake.testing._stripe.fake import FakeStripe

__all__ = ["FakeStripe", "Fault", "Journal", "JournalEntry"]
