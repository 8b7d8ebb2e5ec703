"""What a Resend call is, what it can cost at most, and what it did cost."""
