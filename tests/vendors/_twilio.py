"""What the tests of Twilio have in common: prices to test with, and clients that go to a test server."""

import contextlib
import json
import sqlite3
from pathlib import Path

from twilio.rest import Client

import keybrake
from keybrake.testing.twilio import sync_client

VECTORS = json.loads(Path(__file__).with_name("twilio_vectors.json").read_text("utf-8"))
PRICES = VECTORS["prices"]
ACCOUNT = "AC" + "a" * 32
API = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}"
SMS = {"to": "+14155550100", "from_": "+14155550101", "body": "hello"}


def price_all(**more):
    """Have the prices of the vectors in force, and *more*."""
    keybrake.configure(margin_bps=0, prices={"twilio": {**PRICES, **more}})


@contextlib.contextmanager
def client_at(url, **options):
    """Return a client whose calls go to *url* instead, and close it in the end."""
    http_client = sync_client(url)
    try:
        yield Client(ACCOUNT, "token", http_client=http_client, **options)
    finally:
        http_client.session.close()


def position(ledger_url, key):
    """Return state and value of a position, or None."""
    path = ledger_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT state, value FROM position WHERE key = ?", (key,))
        return found.fetchone()
