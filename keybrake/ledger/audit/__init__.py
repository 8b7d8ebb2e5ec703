"""Is the ledger what was written into it, and how its surroundings are repaired."""
