"""The ledger in a SQLite file: its files, locks and transactions."""
