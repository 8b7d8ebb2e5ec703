"""``keybrake key issue``: open a run for another process and print its vault key."""

from __future__ import annotations

import shlex
from typing import Any

import click
from click.core import ParameterSource

from keybrake.cli.ui.arguments import ledger_url
from keybrake.cli.ui.ledger_pages import Book
from keybrake.cli.ui.policy_options import NONE, policy_arguments, policy_options
from keybrake.cli.ui.text import dollars, moment, safe, to_json
from keybrake.errors import PolicyError
from keybrake.model import clock
from keybrake.model.vault_key import VaultKey
from keybrake.policy.policy import load_terms
from keybrake.runs import arguments
from keybrake.runs.vault_key import issue_vault_key


@click.group(
    no_args_is_help=False,
    epilog="Example: keybrake key issue invoice-42 --cap 50",
    help="""
Make vault keys. A vault key stands for a run, in every process that has the key.
""",
)
def key() -> None:
    """See ``--help``."""


@key.command(
    epilog="Example: export KEYBRAKE_VAULT_KEY=$(keybrake key issue invoice-42 --cap 50)",
    help="""
Open a run, and print the vault key that stands for it.

A process with the key makes its calls under this run, on the same ledger. The key is shown only
once. If KEYBRAKE_VAULT_KEY is set, the new run is a child of its run, and the policies of both
bind. If an argument is wrong, nothing is written.
""",
)
@click.argument("session_id")
@policy_options(lifetime="1h", name="SESSION_ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, amounts in micro-USD.")
@click.pass_context
def issue(ctx: click.Context, /, session_id: str, *, as_json: bool, **said: Any) -> None:
    """See ``--help``."""
    # Outside the try: a mistake in keybrake.toml is not a usage error of this command.
    arguments.check_policies()
    url = ledger_url(ctx)
    try:
        made = issue_vault_key(session_id, ledger=url, **policy_arguments(ctx, **said))
    except PolicyError as error:
        raise click.UsageError(str(error), ctx) from error
    if as_json:
        click.echo(to_json(_row(made, url)))
        return
    click.echo(str(made))
    for line in _words(ctx, _row(made, url)):
        click.echo(safe(line), err=True)


def _row(made: VaultKey, url: str) -> dict[str, Any]:
    """Return a key and its run as ``--json`` prints them, read back from the ledger."""
    with Book(url) as book:
        run = book.run(made.run_id)
        statement = "SELECT terms FROM scope WHERE id = ?"
        (text,) = book.connection.execute(statement, (run.pk,)).fetchone()
    daily = [rule.cap for rule in load_terms(text).rules if rule.pattern == "*"]
    return {
        "key": str(made),
        "run_id": run.uid,
        "label": run.label,
        "parent_id": run.parent_uid,
        "cap_micros": run.cap,
        "daily_usd_cap_micros": daily[0] if daily else None,
        "expires_at": clock.iso(run.expires_at),
        "ledger": url,
    }


def _words(ctx: click.Context, row: dict[str, Any]) -> list[str]:
    cap = dollars(row["cap_micros"], none=NONE)
    daily, parent = row["daily_usd_cap_micros"], row["parent_id"]
    facts = [
        f"cap {cap}",
        *([f"{dollars(daily)} a day"] if daily is not None else []),
        f"expires {moment(row['expires_at'], brief=False) or 'never'}",
        *([f"child of {parent}, whose policy binds as well"] if parent else []),
    ]
    named = ctx.find_root().get_parameter_source("ledger") is ParameterSource.COMMANDLINE
    where = f"--ledger {shlex.quote(row['ledger'])} " if named else ""
    return [
        f"{row['run_id']} ({row['label']}): {', '.join(facts)}; its key is shown this once",
        f"end it with: keybrake {where}revoke {row['run_id']}",
    ]
