"""Policies, the pure function that decides on a call, and the texts of refusals."""
