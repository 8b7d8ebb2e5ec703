"""``keybrake prices pull twilio``: fetch Twilio's prices and write them into keybrake.toml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from keybrake import credentials
from keybrake.cli.price_tables import toml_block, twilio_api
from keybrake.cli.price_tables.toml_block import Figure, Figures
from keybrake.cli.price_tables.twilio_api import LISTS, Pricing
from keybrake.cli.ui.table import console, is_terminal
from keybrake.cli.ui.text import count, json_array, safe
from keybrake.cli.ui.whole_file import write_whole
from keybrake.config import config_file, settings
from keybrake.errors import CredentialError
from keybrake.vendors.twilio import calling_codes
from keybrake.wire import hosts

_THIS_MACHINE = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")

Place = tuple[str, str]


@click.command(
    epilog="Example: keybrake prices pull twilio --country US --country GB --write",
    help="""
Ask Twilio for the prices of your account: messages, calls and numbers.

The credential comes from TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN, or TWILIO_API_KEY with
TWILIO_API_SECRET. Only GETs are sent. Countries that cannot be told apart by their numbers
(US and CA) are asked for together, and the dearest counts. Without --write or --output the
tables are printed, to be pasted into keybrake.toml.
""",
)
@click.argument("vendor", type=click.Choice(["twilio"]))
@click.option("--country", "said", multiple=True, metavar="XX", help="ISO code; may be repeated.")
@click.option("--all", "everywhere", is_flag=True, help="Every country: hundreds of requests.")
@click.option("--write", is_flag=True, help="Put the prices into keybrake.toml, between two marks.")
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write them to FILE."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--api-base", metavar="URL", default=twilio_api.HOST, help="Ask there; for tests.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of the pulled prices.")
@click.pass_context
def pull(
    ctx: click.Context,
    vendor: str,
    said: Sequence[str],
    output: Path | None,
    api_base: str,
    *,
    everywhere: bool,
    write: bool,
    force: bool,
    as_json: bool,
) -> None:
    """See ``--help``."""
    del vendor
    if write and output:
        msg = "--write and --output exclude each other"
        raise click.UsageError(msg, ctx)
    countries = _chosen(ctx, said, everywhere=everywhere)
    pricing = _pricing(_origin(ctx, api_base))
    work = _work(pricing, countries)
    new, empty = _pulled(pricing, work, quiet=as_json)
    for name, country in empty:
        if country in countries:
            words = f"no {name} for {country}: Twilio lists none, or its calling code is not known"
            click.echo(words, err=True)
    if not new:
        msg = "Twilio named no price, and nothing was written; are the countries right? GB, not UK"
        raise click.ClickException(msg)
    if write:
        file, figures = _write(new, frozenset(work))
        click.echo(safe(f"wrote {count(len(new), 'price')} into {file}"), err=as_json)
    else:
        figures = toml_block.closed(new)
    if output is not None:
        write_whole(output, [toml_block.block(figures)], force=force)
        click.echo(safe(f"wrote {output}"), err=as_json)
    if as_json:
        click.echo(json_array(_as_json(figures)))
    elif not write and output is None:
        click.echo(toml_block.block(figures), nl=False)


def _chosen(ctx: click.Context, said: Sequence[str], *, everywhere: bool) -> frozenset[str]:
    codes = frozenset(code.upper() for code in said)
    for code in codes:
        if not twilio_api.COUNTRY.fullmatch(code):
            msg = f"--country {code} is not an ISO code of two letters, such as US"
            raise click.UsageError(msg, ctx)
    if bool(codes) == everywhere:
        msg = "say which prices: --country US (may be repeated), or --all"
        raise click.UsageError(msg, ctx)
    return codes


def _origin(ctx: click.Context, said: str) -> str:
    origin = said.rstrip("/")
    if not _THIS_MACHINE.fullmatch(origin) and not hosts.is_own("twilio", origin):
        msg = (
            f"--api-base {said} is no host of Twilio's, nor http on this machine; the credential "
            f"goes nowhere else, unless vendors.twilio.extra_hosts names it"
        )
        raise click.UsageError(msg, ctx)
    return origin


def _pricing(origin: str) -> Pricing:
    # Import these late: they load the tables of all vendors, which other commands do not need.
    from keybrake.guard.vendor_client import ask
    from keybrake.vendors.inquirers import Inquiry

    try:
        credential = credentials.current().get("twilio")
    except CredentialError as error:
        raise click.ClickException(str(error)) from None
    return Pricing(
        origin,
        lambda path: ask(origin, "twilio", Inquiry("GET", path), credential),
        settings.current().money,
        datetime.now(UTC).date().isoformat(),
    )


def _work(pricing: Pricing, countries: frozenset[str]) -> list[Place]:
    """Return the list of requests: names of prices, each with a country."""
    if not countries:
        return [(name, country) for name in LISTS for country in pricing.countries(name)]
    alike = sorted({other for country in countries for other in calling_codes.sharing(country)})
    return [
        (name, country)
        for name in LISTS
        for country in (sorted(countries) if name == "number_month" else alike)
    ]


def _pulled(
    pricing: Pricing, work: Sequence[Place], *, quiet: bool
) -> tuple[dict[Place, Figure], list[Place]]:
    """Return the prices, and the requests for which Twilio lists none."""
    found, empty = [], []
    for name, country in _with_progress(work, quiet=quiet):
        figures = pricing.figures(name, country)
        found += figures
        if not figures:
            empty.append((name, country))
    return toml_block.with_dearest(found), empty


def _with_progress(work: Sequence[Place], *, quiet: bool) -> Iterator[Place]:
    if quiet or not is_terminal():
        yield from work
        return
    from rich.progress import track

    yield from track(work, "asking Twilio", console=console(), transient=True)


def _write(new: Figures, pulled: frozenset[Place]) -> tuple[Path, Figures]:
    """Write *new* into the configuration file; return the file and all prices between its marks."""
    file = config_file.find_file() or Path(config_file.FILE_NAME)
    there = file.is_file()
    text = file.read_bytes().decode("utf-8") if there else ""
    old = toml_block.figures_in(text)
    figures = toml_block.closed(toml_block.merged(old, new, pulled))
    result = toml_block.written_into(text, figures, str(file))
    mode = file.stat().st_mode & 0o777 if there else 0o600
    write_whole(file, [result], force=there)
    file.chmod(mode)  # keep the mode that the owner has chosen
    return file, figures


def _as_json(figures: Figures) -> Iterator[dict[str, object]]:
    for (name, key), (usd, countries, on) in sorted(figures.items()):
        price = None if usd == toml_block.NOT_PULLED else usd
        yield {"name": name, "key": key, "usd": price, "countries": countries, "as_of": on or None}
