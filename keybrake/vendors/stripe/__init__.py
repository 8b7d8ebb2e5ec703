"""What a Stripe call is, what it can cost at most, and what it did cost."""
