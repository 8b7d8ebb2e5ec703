"""``keybrake doctor``: check the installation, and repair the surroundings of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import click

from keybrake.cli.doctor_checks import credentials, environment, ledger, repairs
from keybrake.cli.doctor_checks.environment import Finding
from keybrake.cli.ui.arguments import ledger_url
from keybrake.cli.ui.table import Cell, console, is_terminal
from keybrake.cli.ui.text import count, safe, to_json
from keybrake.errors import KeybrakeError

FOUND_SOMETHING = 3

_MARKS = {
    "ok": Cell("ok   ", "green"),
    "note": Cell("note ", "yellow"),
    "wrong": Cell("WRONG", "bold red"),
}


@click.command(
    epilog="Example: keybrake doctor --json",
    help="""
Check the installation; without --repair, nothing is changed.

It checks ledger, seal, lock, clock, configuration, SDKs, hooks and credentials. Each credential
is fetched from its source, and never shown. Exits with 3 if something would keep keybrake from
working; a note is worth knowing, but not an error. With --repair, a new seal is made for the
ledger as it is, after you have agreed to the loss that this means.
""",
)
@click.option("--repair", is_flag=True, help="Repair seal, file modes and leftover files.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask, even if something is lost.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: ok, and the checks.")
@click.pass_context
def doctor(ctx: click.Context, *, repair: bool, yes: bool, as_json: bool) -> None:
    """See ``--help``."""
    repaired = list(repairs.carry_out(ctx, yes=yes, as_json=as_json)) if repair else []
    findings = []
    for finding in _findings(ctx):
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    if as_json:
        checks = [finding._asdict() for finding in findings]
        done = {"repaired": repaired} if repair else {}
        click.echo(to_json({"ok": not wrong, **done, "checks": checks}))
    elif wrong:
        click.echo(f"{count(wrong, 'thing')} wrong")
    else:
        click.echo("everything is in place")
    if wrong:
        ctx.exit(FOUND_SOMETHING)


def _findings(ctx: click.Context) -> Iterator[Finding]:
    yield from environment.machine()
    fault = environment.config_fault()
    yield from environment.config(fault)
    rest = chain(_ledger(ctx), environment.sdks(), _credentials(fault), environment.hooks())
    for finding in rest:
        # Every check that needs the configuration fails for the same fault: report it only once.
        yield finding if finding.detail != fault else _not_checked(finding.check)


def _credentials(fault: str | None) -> Iterator[Finding]:
    if fault is None:
        yield from credentials.credentials()
    else:
        yield _not_checked("credential")


def _not_checked(check: str) -> Finding:
    return Finding(check, "note", "not looked at, because the configuration is wrong")


def _ledger(ctx: click.Context) -> Iterator[Finding]:
    try:
        yield from ledger.ledger(ledger_url(ctx))
    except KeybrakeError as error:
        yield Finding("ledger", "wrong", str(error))


def _print(finding: Finding) -> None:
    mark = _MARKS[finding.verdict]
    if not is_terminal():
        click.echo(f"{mark.text}  {finding.check:<12}  {safe(finding.detail)}")
        return
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    # Indent the following lines of the text, so that they do not start below the mark.
    head = Text.assemble((mark.text, mark.style), "  ", (f"{finding.check:<12}", "bold"), "  ")
    indent = head.cell_len
    lines = Text(safe(finding.detail)).wrap(screen, max(20, screen.width - indent))
    screen.print(head + (lines[0] if lines else Text("")))
    for line in lines[1:]:
        screen.print(Padding(line, (0, 0, 0, indent)))
