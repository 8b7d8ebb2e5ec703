"""``keybrake policy check``: report every mistake in a keybrake.toml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from keybrake.cli.ui import config_mistakes
from keybrake.cli.ui.table import Column, Table
from keybrake.cli.ui.text import count, dollars, json_array, safe, to_json
from keybrake.config import config_file
from keybrake.config.references import harmless
from keybrake.config.settings import Config
from keybrake.errors import PolicyError
from keybrake.model import clock
from keybrake.policy import policy as policies
from keybrake.policy.policy import Policy

FOUND_SOMETHING = 3


@click.group(
    no_args_is_help=False,
    epilog="Example: keybrake policy check",
    help="""
Check the policies in keybrake.toml.
""",
)
def policy() -> None:
    """See ``--help``."""


@policy.command(
    epilog="Example: keybrake policy check deploy/keybrake.toml",
    help="""
Report every mistake in a keybrake.toml, each with its line.

Without FILE it checks the file in force: that of KEYBRAKE_CONFIG, else the one in the working
directory, else the nearest above it, up to the repository's root or the home folder.
Exits with 3 if there is a mistake; otherwise prints the policies. No credential is fetched.
""",
)
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of the mistakes, or object.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, *, as_json: bool) -> None:
    """See ``--help``."""
    file = file or _in_force()
    # Read the file only once, because it may be a pipe.
    data = config_mistakes.read(file)
    found = config_mistakes.mistakes(data, str(file))
    if found:
        _tell(found, as_json=as_json)
        ctx.exit(FOUND_SOMETHING)
    config = config_mistakes.config_of(data, str(file))
    if as_json:
        click.echo(to_json(_summary(config)))
    else:
        _show(config)


def _in_force() -> Path:
    file = config_file.find_file()
    if file is None:
        places = ", ".join(str(folder.absolute()) for folder in config_file.folders())
        msg = (
            f"there is no {config_file.FILE_NAME} in {places}; name one, or make one: keybrake init"
        )
        raise PolicyError(msg)
    return file


def _tell(found: list[config_mistakes.Mistake], *, as_json: bool) -> None:
    if as_json:
        click.echo(json_array(mistake._asdict() for mistake in found))
        return
    for mistake in found:
        click.echo(safe(f"{mistake.file}:{mistake.line}: {mistake.message}"))
    click.echo(count(len(found), "mistake"), err=True)


def _summary(config: Config) -> dict[str, Any]:
    """Return the valid configuration as ``--json`` prints it."""
    return {
        "file": config.source,
        "policies": [_row(name, policy) for name, policy in _policies(config)],
        "credentials": dict(_credentials(config)),
        "extra_hosts": config.extra_hosts,
        "accounts": config.accounts,
        "proxies": config.proxies,
    }


def _policies(config: Config) -> Iterator[tuple[str, Policy]]:
    for name, table in config.policies.items():
        yield name, Policy.from_mapping(table, where=name)


def _credentials(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each vendor with the reference to its secret."""
    for vendor, place in config.credentials.items():
        yield vendor, harmless(place["secret"])


def _row(name: str, policy: Policy) -> dict[str, Any]:
    terms = policies.terms_of(policy)
    lives_for = policies.expiry_of(policy)
    daily = terms.rules[0].cap if policy.daily_usd_cap is not None else None
    return {
        "name": name,
        "cap_micros": terms.cap,
        "daily_usd_cap_micros": daily,
        "max_calls": terms.max_calls,
        "max_amount_micros": terms.max_amount,
        "allow": terms.allow,
        "limits": len(policy.limits or ()),
        "expires_in_s": None if lives_for is None else lives_for // clock.SECOND,
    }


def _show(config: Config) -> None:
    click.echo(f"{safe(config.source)} has no mistakes")
    if config.policies:
        _table().show(_line(name, policy) for name, policy in _policies(config))
    for vendor, place in _credentials(config):
        click.echo(f"credential of {vendor}: {safe(place)}")
    for vendor, hosts in config.extra_hosts.items():
        click.echo(f"extra hosts of {vendor}: {safe(', '.join(hosts) or 'none')}")


def _table() -> Table:
    return Table(
        Column("policy", style="bold"),
        Column("cap", right=True),
        Column("a day", right=True),
        Column("a call", right=True),
        Column("calls", right=True),
        Column("allow", right=True),
        Column("limits", right=True),
        Column("expires in", right=True),
    )


def _line(name: str, policy: Policy) -> list[str]:
    row = _row(name, policy)
    allow = row["allow"]
    return [
        name,
        dollars(row["cap_micros"], none="none"),
        dollars(row["daily_usd_cap_micros"], none="any"),
        dollars(row["max_amount_micros"], none="any"),
        "any" if row["max_calls"] is None else f"{row['max_calls']:,}",
        "any" if allow is None else count(len(allow), "pattern"),
        f"{row['limits']}",
        "never" if policy.expires_in is None else str(policy.expires_in),
    ]
