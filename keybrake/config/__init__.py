"""What the operator wrote down: ``keybrake.toml``, the environment, prices, rates and locations."""
