"""What a child would load and look up first, done once in the process that children are forked from."""

import asyncio
import contextlib
import tempfile
import warnings
from pathlib import Path

import stripe

import keybrake
import keybrake.cli.app
import keybrake.ledger.stores.sqlite.ledger_files as files
from tests.faults import _acts

# A call to nowhere: the SDK loads the rest of itself, and asks the system once what it is.
_acts.point_at("http://127.0.0.1:9")
with contextlib.suppress(stripe.APIConnectionError):
    _acts.pay()
with contextlib.suppress(stripe.APIConnectionError), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's async client does what httpx no longer likes
    asyncio.run(_acts.pay_together("http://127.0.0.1:9"))
keybrake.install()
keybrake.uninstall()
# The tools that make and verify a ledger; the process itself has none open, so that children share nothing.
with tempfile.TemporaryDirectory() as folder:
    files.create(Path(folder) / "ledger.db")
    _acts.verified(_acts.Scene(f"sqlite:///{folder}/ledger.db", "", None))
