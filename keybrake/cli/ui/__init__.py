"""Helpers that the commands share: arguments, tables, text and pages of the ledger."""
