"""``keybrake init``: write a commented keybrake.toml to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from keybrake.cli.ui.text import brief, to_json
from keybrake.cli.ui.whole_file import write_whole
from keybrake.config.config_file import FILE_NAME
from keybrake.model import data_files


@click.command(
    epilog="Example: keybrake init && keybrake doctor",
    help="""
Write a commented keybrake.toml into the working directory.

All settings in it are commented out. An existing file is not replaced without --force.
""",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the file's path.")
def init(*, force: bool, as_json: bool) -> None:
    """See ``--help``."""
    text = data_files.read("keybrake.cli.commands", "keybrake.toml")
    file = Path(FILE_NAME)
    write_whole(file, [text], force=force)
    if as_json:
        click.echo(to_json({"file": str(file.absolute())}))
    else:
        click.echo(f"wrote {file}; take the # off what you need, then: keybrake doctor")
    if (other := os.environ.get("KEYBRAKE_CONFIG")) is not None and not _is_same(other, file):
        words = f"keybrake: KEYBRAKE_CONFIG={brief(other)} is the file in force, not this one"
        click.echo(words, err=True)


def _is_same(named: str, file: Path) -> bool:
    return os.path.realpath(named) == os.path.realpath(file)
