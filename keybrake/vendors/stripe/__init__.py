"""Stripe: recognise its calls, price them before they are sent, and read their cost afterwards."""
