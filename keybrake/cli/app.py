"""Dispatch a command line to its command, and report any error in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

import keybrake
from keybrake.cli.ui.arguments import FOUND_OLDER
from keybrake.cli.ui.text import brief, safe
from keybrake.errors import KeybrakeError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
FOUND_SOMETHING = 3

_EPILOG = """
\b
keybrake demo                   watch a runaway agent being stopped
keybrake runs                   what each run has spent
keybrake log --follow           every call, as it happens
keybrake revoke run_1a2b3c4d    end a run now, whatever process it is in
keybrake exec --cap 5 -- CMD    run a program, unchanged, under a cap

\b
Exit status: 0 done, 1 failed, 2 used wrongly, 3 found something wrong, 130 interrupted.
Completion: eval "$(_KEYBRAKE_COMPLETE=bash_source keybrake)"; zsh_source and fish_source, too.
"""


# Command name -> module under commands/, in the order in which a new user needs the commands.
_HOME = {name: name for name in ("demo", "init", "exec", "runs", "show", "log")}
_HOME |= {name: name for name in ("spend", "key")}
_HOME |= dict.fromkeys(("revoke", "pause", "resume"), "stop")
_HOME |= dict.fromkeys(("unresolved", "resolve"), "unresolved")
_HOME |= {name: name for name in ("reconcile", "prices", "policy", "verify", "doctor", "export")}


class _Commands(dict[str, click.Command]):
    """The commands by name; each is imported on first use, because all take a third of a second."""

    def __getitem__(self, name: str) -> click.Command:
        found = super().__getitem__(name)
        if found is _NOT_LOADED:
            module = importlib.import_module(f"keybrake.cli.commands.{_HOME[name]}")
            # exec is a Python built-in, so the command's function is named exec_.
            found = self[name] = getattr(module, "exec_" if name == "exec" else name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Return the command with that name."""
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        """Return all commands."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Return all commands with their names."""
        return [(name, self[name]) for name in self]


_NOT_LOADED = click.Command("")


class _Root(click.Group):
    """The group of all commands; it turns their errors into an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Return the command names in the order of ``_HOME``, not sorted."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; flush its output first, because that may fail and change the status."""
        with _errors_in_one_line():
            result = super().invoke(ctx)
            sys.stdout.flush()
            if ctx.meta.get(FOUND_OLDER) and not result:
                return FOUND_SOMETHING
            return result


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # `keybrake log | head`: the reader has enough lines, so this is no error.
        _redirect_broken_stdout()
        raise click.exceptions.Exit(0) from None
    except KeybrakeError as error:
        raise click.ClickException(str(error)) from error
    except sqlite3.Error as error:
        message = f"the ledger cannot be read: {error}; see keybrake doctor"
        raise click.ClickException(message) from error
    except OSError as error:
        _redirect_broken_stdout()
        raise click.ClickException(_os_words(error)) from error


def _os_words(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"


def _redirect_broken_stdout() -> None:
    """Redirect stdout to /dev/null if it is broken, or Python's flush at exit would fail again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@click.group(
    cls=_Root,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""
See what agents spend at Stripe, Twilio and Resend, and stop them.
""",
)
@click.option(
    "--ledger",
    metavar="URL",
    envvar="KEYBRAKE_LEDGER",
    help="The ledger, such as sqlite:///ledger.db. Default: KEYBRAKE_LEDGER, else keybrake.toml, "
    "else the platform's folder for state.",
)
@click.version_option(keybrake.__version__, message="keybrake %(version)s")
@click.pass_context
def app(ctx: click.Context, ledger: str | None) -> None:
    """See ``--help``."""
    ctx.obj = ledger
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


app.commands = _Commands(dict.fromkeys(_HOME, _NOT_LOADED))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; report a user's errors, do not raise them."""
    for name in ("stdout", "stderr"):
        # `keybrake runs >&-` closes stdout, and Python sets it to None: write to /dev/null instead.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 -- open as long as the program
    for stream in (sys.stdout, sys.stderr):
        # Print an escape for a character that the terminal's encoding lacks; do not raise.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = app.main(list(arguments), prog_name="keybrake", standalone_mode=False)
    except click.UsageError as error:
        return _say(f"{brief(error.format_message())} {_where_to_read(error)}", error.exit_code)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except click.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _where_to_read(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "keybrake"
    return f"({command} --help)"


def _bare(message: str) -> str:
    """Return a text without the user and password parts of the URLs in it."""
    return re.sub(r"(?<=://)[^\s/'\"]+@", "", message)


def _say(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        click.echo(f"keybrake: {_bare(safe(' '.join(message.split())))}", err=True)
    return status
