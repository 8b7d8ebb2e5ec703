"""The operator's configuration: ``keybrake.toml``, environment, prices, rates, credentials."""
