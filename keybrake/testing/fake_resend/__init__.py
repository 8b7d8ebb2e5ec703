"""What Resend does with a request, without sending mail."""
