"""Imitate Twilio's API without telephones."""
