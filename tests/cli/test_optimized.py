"""Is everything there under ``python -OO``, which takes docstrings and assertions away."""

import json
import subprocess
import sys

HELP = """
import json, sys
import click
from keybrake.cli import app as _app

def helps(command, name, parent=None):
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, command.get_help(context), command.get_short_help_str(200)
    for inner in getattr(command, "commands", {}):
        yield from helps(command.get_command(context, inner), inner, context)

print(json.dumps(list(helps(_app.app, "keybrake"))))
"""

RUN = """
import sys, keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_1", 0

def charge(cents):
    return stripe.PaymentIntent.create(amount=cents, currency="usd").amount

@keybrake.tool(cap=5)
def tool():
    return charge(300)

told = []
with keybrake.run("agent", cap=7, ledger=sys.argv[2]) as run:
    for call in (tool, tool, lambda: charge(450), lambda: charge(400)):
        try:
            told.append(call())
        except keybrake.CapExceeded as refusal:
            told.append(refusal.reason)
try:
    keybrake.run("x", cap=float("nan"))
except keybrake.PolicyError as error:
    told.append(str(error)[:4])
print(told, run.spent)
"""


def python(*words):
    """Run Python and return its standard output."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_command_keeps_its_help():
    """Every command, and the list of them, says the same with and without docstrings."""
    plain, optimized = (json.loads(python(*flags, "-c", HELP)) for flags in ([], ["-OO"]))

    assert len(plain) > 20
    assert all(short for _, _, short in plain)
    assert optimized == plain


def test_caps_hold_without_assertions(fake, ledger_url):
    """A run refuses, counts and explains the same under -OO."""
    plain, optimized = (
        python(*flags, "-W", "ignore", "-c", RUN, fake.url, f"{ledger_url}.{number}")
        for number, flags in enumerate(([], ["-OO"]))
    )

    assert plain == "[300, 'cap_exceeded', 'cap_exceeded', 400, 'cap='] 7.00\n"
    assert optimized == plain
