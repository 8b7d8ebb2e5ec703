"""Show the prices in force, and pull a vendor's prices with ``keybrake prices pull``."""
