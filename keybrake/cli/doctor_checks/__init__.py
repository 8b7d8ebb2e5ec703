"""The checks and repairs of ``keybrake doctor``."""
