"""Where a credential may travel: the vendors' own hosts and those that the operator named."""
