"""Audit a ledger: verify it against its events, and repair its seal and file modes."""
