"""The acts of ``keybrake demo``."""
