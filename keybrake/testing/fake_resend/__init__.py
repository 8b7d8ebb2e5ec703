"""Imitate Resend's API without sending mail."""
