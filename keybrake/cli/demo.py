"""A runaway agent, stopped, in a few seconds and without an account: ``keybrake demo``."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import click

from keybrake.cli._said import ledger_url

_NO_STRIPE = "the demo drives the real Stripe SDK; pip install 'keybrake[stripe]'"


@click.command(epilog="Example: keybrake demo")
@click.pass_context
def demo(ctx: click.Context) -> None:
    """
    Watch a runaway agent being stopped.

    The real Stripe SDK talks to a fake Stripe on this machine: no network, no account, no money.
    Without --ledger or KEYBRAKE_LEDGER it writes to a new ledger in a temporary folder.
    """
    if importlib.util.find_spec("stripe") is None:
        raise click.ClickException(_NO_STRIPE)
    # Here, not above: the SDK takes a while to load, and only the demo needs it.
    from keybrake.cli._demo_acts import play

    given = ctx.find_root().params["ledger"]
    folder = Path(tempfile.mkdtemp(prefix="keybrake-demo-")) if given is None else None
    play(ledger_url(ctx) if folder is None else f"sqlite:///{folder / 'ledger.db'}")
