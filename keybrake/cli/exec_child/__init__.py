"""The program that ``keybrake exec`` runs: its environment, its start and its credentials."""
