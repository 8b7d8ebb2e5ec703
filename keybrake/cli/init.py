"""A configuration to begin with: ``keybrake init``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from keybrake import _config
from keybrake.cli._whole_file import write_whole


@click.command(epilog="Example: keybrake init && keybrake doctor")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(*, force: bool) -> None:
    """
    Write a commented keybrake.toml into the working directory.

    It changes nothing until you take a # away, and it is not replaced without --force.
    """
    text = resources.files("keybrake.cli").joinpath("keybrake.toml").read_text("utf-8")
    write_whole(Path(_config.FILE_NAME), [text], force=force)
    click.echo(f"wrote {_config.FILE_NAME}; take the # off what you need, then: keybrake doctor")
