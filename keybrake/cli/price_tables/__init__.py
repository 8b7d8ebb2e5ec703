"""Prices in force, and how ``keybrake prices pull`` brings in the vendor's own."""
