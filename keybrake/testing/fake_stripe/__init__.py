"""Imitate Stripe's API without money."""
