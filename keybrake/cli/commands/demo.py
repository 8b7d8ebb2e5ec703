"""``keybrake demo``: show how a runaway agent is stopped, without an account at a vendor."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import click

from keybrake.cli.commands.runs import run_row
from keybrake.cli.ui.arguments import ledger_url
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.text import to_json
from keybrake.config import started_under

_UNDER_A_KEY = (
    "the demo's agents would be charged to the run of KEYBRAKE_VAULT_KEY; unset that, and do not start "
    "the demo by keybrake exec"
)
_NO_SDK = "the demo drives the real SDKs of all three vendors; pip install 'keybrake[vendors]'"


@click.command(
    epilog="Example: keybrake demo",
    help="""
Watch a runaway agent being stopped.

The vendors' real SDKs talk to fake vendors on this machine: no network, no account, no money.
Without --ledger or KEYBRAKE_LEDGER it writes to a new ledger in a temporary folder.
""",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Only print the runs at the end, as one JSON object."
)
@click.pass_context
def demo(ctx: click.Context, *, as_json: bool) -> None:
    """See ``--help``."""
    if os.environ.get(started_under.AMBIENT_KEY) is not None:
        raise click.ClickException(_UNDER_A_KEY)
    if not all(map(_is_there, ("stripe", "twilio", "resend"))):
        raise click.ClickException(_NO_SDK)
    # Import it late: it loads the SDKs, which takes a while and only the demo needs.
    from keybrake.cli.demo_acts.acts import play

    given = ctx.find_root().params["ledger"]
    folder = Path(tempfile.mkdtemp(prefix="keybrake-demo-")) if given is None else None
    url = ledger_url(ctx) if folder is None else f"sqlite:///{folder / 'ledger.db'}"
    play(url, is_shown=not as_json)
    if as_json:
        with Book(url) as book:
            runs = [run_row(run) for run in book.runs()]
        click.echo(to_json({"ledger": url, "runs": runs}))


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        return False
