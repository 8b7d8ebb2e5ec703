"""The parts of the fake Twilio."""
