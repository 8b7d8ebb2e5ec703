"""What a scope allows, the one pure decision, and the words of a refusal."""
