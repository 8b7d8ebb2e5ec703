"""The parts of the fake Stripe."""
