"""The way of one call, the same for every door and for sync and async. Start reading in ``call.py``."""
