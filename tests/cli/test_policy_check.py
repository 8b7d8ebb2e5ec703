"""Does ``keybrake policy check`` name every mistake, in its line, and no other."""

import subprocess
import time
import tomllib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake import Policy
from keybrake.cli.ui import config_mistakes, toml_lines
from keybrake.config import settings
from keybrake.errors import PolicyError
from keybrake.runs import arguments
from tests.cli.conftest import command, environment

SOUND = """\
ledger = "sqlite:///ledger.db"
proxies = ["http://proxy.example:3128"]
[credentials]
stripe = "vault://secret/stripe#/api_key"
twilio = { account_sid = "AC01", auth_token = "op://agents/twilio/token" }
[vendors.stripe]
extra_hosts = ["http://127.0.0.1:12111"]
accounts = ["acct_1Abc"]
[policies.refund-agent]
cap = 200
daily_usd_cap = 500
max_calls = 1000
allow = ["stripe.refunds.create", "stripe.charges.retrieve"]
expires_in = "2h"
limits = { "stripe.refunds.create" = { cap = 50, max_calls = 5, per = "1h" } }
[policies.reader]
cap = "none"
expires_in = "none"
"""

MANY = """\
lock_timout = 3
proxies = [
  "http://proxy.example:3128",
  "proxy.example", # not an origin
]

[money]
refunds = "never"
usd_per = { EUR = 1.1, "EURO" = "3" }

[prices.twilio]
sms_segment = { "+1" = "0.01", "44" = "0.1" }

[credentials]
stripe = "not a reference"
ttl = 0

[policies.a]
max_calls = 1.5
alow = []
allow = ["stripe.refunds.create",
         "stripe.refunds.crate"]
[policies.a.limits."stripe.refunds.create"]
per = "week"
[policies.a.limits."stripe.refunds.cancle"]
cap = 1
per = "day"

[policies]
b = 5
"""
# By line, what is said there.
TOLD = {
    1: ["unknown key 'lock_timout'; known are "],
    2: ["proxies: 'proxy.example' is not an origin; write "],
    8: ["money.refunds='never' is unknown; write "],
    9: ["money.usd_per.EUR=1.1 is not a rate; ", "money.usd_per: 'EURO' is not a currency code"],
    12: ["prices.twilio.sms_segment: '44' is not a destination; write \"+44\""],
    15: ["credentials.stripe is no reference to a secret; write where it is kept"],
    16: ["credentials.ttl is not a number of seconds"],
    18: ["policies.a: cap is missing; write "],
    19: ["policies.a: max_calls=1.5 is not a number of calls"],
    20: ["policies.a: unknown key 'alow'; known are "],
    21: ["policies.a: 'stripe.refunds.crate' is no endpoint of stripe; did you mean "],
    23: ["policies.a: Limit() limits nothing"],
    24: ["policies.a: per='week' is not a window; write "],
    25: ["policies.a: 'stripe.refunds.cancle' is no endpoint of stripe"],
    30: ["policies holds something that is not a table; write [policies.NAME]"],
}


@pytest.fixture
def check(cli, tmp_path):
    """Return a function that checks a text."""

    def run(text, *options, **changes):
        (tmp_path / "keybrake.toml").write_text(text, newline="")
        return cli("policy", "check", *options, **changes)

    return run


def test_every_mistake_is_told_in_its_line(check):
    """All mistakes of a file are told at once: FILE:LINE: what is wrong."""
    told = check(MANY)

    assert told.code == 3
    assert told.err == "16 mistakes\n"
    lines = told.out.splitlines()
    wanted = [(number, words) for number, texts in TOLD.items() for words in texts]
    assert len(lines) == len(wanted)
    for line, (number, words) in zip(lines, wanted, strict=True):
        assert line.startswith(f"keybrake.toml:{number}: {words}")


def test_programs_get_the_mistakes_as_an_array(check):
    """With --json each mistake is an object with its file and line."""
    told = check(MANY, "--json")

    assert (told.code, told.err) == (3, "")
    assert [one["line"] for one in told.json] == [n for n, words in TOLD.items() for _ in words]
    assert {tuple(one) for one in told.json} == {("file", "line", "message")}
    assert {one["file"] for one in told.json} == {"keybrake.toml"}


def test_a_sound_file_is_summed_up(check):
    """Policies are shown with their caps, credentials with where they are kept."""
    told = check(SOUND)

    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines() == [
        "keybrake.toml has no mistakes",
        "policy            cap    a day  a call  calls       allow  limits  expires in",
        "refund-agent  $200.00  $500.00     any  1,000  2 patterns       1          2h",
        "reader           none      any     any    any         any       0       never",
        "credential of stripe: vault://secret/stripe#/api_key",
        "credential of twilio: op://agents/twilio/token",
        "extra hosts of stripe: http://127.0.0.1:12111",
    ]


def test_programs_get_the_summary_as_an_object(check):
    """With --json a sound file is an object, with amounts in micro-USD."""
    told = check(SOUND, "--json")

    assert told.code == 0
    assert told.json["policies"][0] == {
        "name": "refund-agent",
        "cap_micros": 200_000_000,
        "daily_usd_cap_micros": 500_000_000,
        "max_calls": 1000,
        "max_amount_micros": None,
        "allow": ["stripe.refunds.create", "stripe.charges.retrieve"],
        "limits": 1,
        "expires_in_s": 7200,
    }
    assert told.json["policies"][1]["expires_in_s"] is None
    assert told.json["credentials"]["stripe"] == "vault://secret/stripe#/api_key"
    assert told.json["extra_hosts"] == {"stripe": ["http://127.0.0.1:12111"]}
    assert told.json["accounts"] == {"stripe": ["acct_1Abc"]}
    assert told.json["proxies"] == ["http://proxy.example:3128"]


def test_which_file_is_checked(cli, tmp_path):
    """It is the one named, else that of KEYBRAKE_CONFIG, else the working directory's."""
    for name in ("named", "set", "keybrake"):
        (tmp_path / f"{name}.toml").write_text("oops = 1")

    assert (
        cli("policy", "check", "named.toml", KEYBRAKE_CONFIG="set.toml").out[:12] == "named.toml:1"
    )
    assert cli("policy", "check", KEYBRAKE_CONFIG="set.toml").out[:10] == "set.toml:1"
    assert cli("policy", "check").out[:15] == "keybrake.toml:1"


def test_where_there_is_no_file(cli, tmp_path):
    """A file that is not there is no success: 2 if it is named, 1 if it is only missing."""
    named, unnamed = cli("policy", "check", "x.toml"), cli("policy", "check")
    pointed_to = cli("policy", "check", KEYBRAKE_CONFIG="x.toml")

    assert (named.code, unnamed.code, pointed_to.code) == (2, 1, 1)
    assert "'x.toml' does not exist" in named.err
    assert (
        f"there is no keybrake.toml in {tmp_path}; name one, or make one: keybrake init"
        in unnamed.err
    )
    assert "KEYBRAKE_CONFIG='x.toml' is no file" in pointed_to.err


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a = 1\nledger = \n", 2, "cannot be read as TOML: Invalid value, in column 10"),
        (b"stripe = sk_live_abcdefgh", 1, "cannot be read as TOML: Invalid value, in column 10"),
        (b"a = 1\na = 2\n", 2, "cannot be read as TOML: Cannot overwrite a value"),
        (b"a = 1\n\nb = [1,\n2", 4, "cannot be read as TOML: "),
        (b"a = 1\n# \xff\n", 2, "this is no text in UTF-8"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, 1, "brackets are nested too deeply"),
        (b"a = " + b"9" * 5000, 1, "cannot be read as TOML: "),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(quick, tmp_path, data, line, words):
    """A file that cannot be read at all has one mistake, where reading ended."""
    (tmp_path / "keybrake.toml").write_bytes(data)

    told = quick("policy", "check")

    assert told.code == 3
    assert told.out.startswith(f"keybrake.toml:{line}: {words}")
    assert told.out.count("\n") == 1
    assert "sk_live" not in told.out


def test_what_never_ends_is_read_to_an_end(cli):
    """A device, or the wrong file: nobody writes a megabyte of policies."""
    told = cli("policy", "check", "/dev/zero")

    assert (told.code, told.err) == (3, "1 mistake\n")
    assert told.out == "/dev/zero:1: is longer than 1 MiB; is it the right file?\n"


def test_a_file_of_a_mebibyte_is_read(check):
    """And one of a byte more is not."""
    whole = SOUND + "#" * (2**20 - len(SOUND) - 1) + "\n"

    assert check(whole).code == 0
    assert check(whole + "\n").code == 3


@pytest.mark.parametrize(("text", "code"), [(SOUND, 0), (MANY, 3)])
def test_a_pipe_is_read_once(tmp_path, text, code):
    """``policy check /dev/stdin`` judges and sums up what comes."""
    told = subprocess.run(
        command("policy", "check", "/dev/stdin"),
        cwd=tmp_path,
        env=environment(tmp_path),
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == code
    assert told.stdout.startswith("/dev/stdin")
    assert ("credential of stripe: vault://secret/stripe#/api_key" in told.stdout) is (code == 0)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reference_is_shown_without_what_may_be_a_secret(check, options):
    """The arguments of a command are its own affair, and a key may stand anywhere."""
    text = (
        '[credentials]\nstripe = "exec://op?args=--token%20hunter2#/key"\n'
        'resend = "file:///a/sk_live_4eC39HqLyjWDarjt"\n'
        'twilio = { account_sid = "AC1", auth_token = "vault://me:hunter2@vault/twilio" }\n'
    )
    told = check(text, *options)

    assert told.code == 0
    assert "hunter2" not in told.out
    assert "4eC39" not in told.out
    shown = told.json["credentials"]["stripe"] if options else told.out
    assert "exec://op?…#/key" in shown


TOKEN = "s3cr3tt0k3n"


@pytest.mark.parametrize(
    "text",
    [
        f"[credentials]\nstripe = '{TOKEN}'",
        f"[credentials]\nstripe = 'foo://{TOKEN}'",
        f"[credentials]\nstripe = {{ api_key = '{TOKEN}' }}",
        f"[credentials]\nstripe = ['{TOKEN}']",
        f"[credentials]\nttl = '{TOKEN}'",
        f"[credentials]\ntwilio = {{ account_sid = 'AC1:{TOKEN}', auth_token = 'env://A' }}",
        f"[credentials]\ntwilio = {{ account_sid = 'AC1', auth_token = '{TOKEN}' }}",
        f"[credentials]\ntwilio = {{ account_sid = 'AC1 {TOKEN}', auth_token = '{TOKEN}' }}",
        f"[credentials]\ntwilio = 'AC1:{TOKEN}'",
        f"proxies = ['http://user:{TOKEN}@proxy.example:3128']",
        f"proxies = ['http://user:{TOKEN}{'x' * 90}@proxy.example:3128']",
        f"[vendors.stripe]\nextra_hosts = ['https://user:{TOKEN}@stripe.example']",
        f"ledger = 'postgresql://user:{TOKEN}@database/ledger'",
        f"durability = 'sk_live_{TOKEN}'",
        f"[vendors.stripe]\naccounts = ['re_{TOKEN}!']",
        f"[policies.a]\ncap = 'kb_live_{TOKEN}'",
    ],
)
@pytest.mark.parametrize("words", [["policy", "check"], ["doctor"]], ids=" ".join)
def test_no_mistake_repeats_a_secret(quick, tmp_path, text, words):
    """What stands where only a reference may, or looks like a secret elsewhere, is not shown again."""
    (tmp_path / "keybrake.toml").write_text(text)

    told = quick(*words)

    assert told.code == 3
    assert "s3cr3t" not in told.out + told.err


def test_a_hostile_name_is_shown_harmlessly(check):
    """What a file says cannot act on the terminal."""
    told = check('"\\u001b]0;x\\u0007" = 1\n"\\u202e" = 1\n')

    assert told.code == 3
    assert not set(told.out) & {"\x1b", "\x07", "\u202e"}


# Lines


TRICKY = '''\
# a = 1
"quoted key" = "# no comment" # a comment
'li.teral'.sub . "x\\u0041" = 1
empty = ""
basic = """
[no.table]
a = "1" \\"""
""""" # two quotes, then three
literal = \'\'\'
[no.table]\'\'\'
when = 1979-05-27 07:32:00
array = [ # [
  1, [2,
    3], { a = 1, b = "]" },
  "},[",
]
inline = { "x y" = { z = [1, 2] }, w.v = -1.5e3 }

[ table . "with dot." ] # ]
a = true
[table.later]
[[many]]
name = 1
[[many]]
name = 2
'''
STANDS = {
    ("quoted key",): 2,
    ("li.teral", "sub", "xA"): 3,
    ("empty",): 4,
    ("basic",): 5,
    ("literal",): 9,
    ("when",): 11,
    ("array",): 12,
    ("inline", "x y", "z"): 17,
    ("inline", "w", "v"): 17,
    ("table",): 19,
    ("table", "with dot."): 19,
    ("table", "with dot.", "a"): 20,
    ("table", "later"): 21,
    ("many",): 22,
    ("many", "name"): 23,
}


def test_the_line_of_a_key_is_found_however_it_is_written():
    """Strings, comments, arrays and inline tables do not lead astray."""
    tomllib.loads(TRICKY)  # else the lines mean nothing

    found = toml_lines.lines(TRICKY)

    assert {path: found.get(path) for path in STANDS} == STANDS
    assert ("no",) not in found
    assert toml_lines.lines(TRICKY.replace("\n", "\r\n")) == found


def test_what_has_no_line_of_its_own_has_that_of_its_table():
    """A missing key is told where its table begins, and an element where its array begins."""
    found = toml_lines.lines("\n[a.b]\nc = [\n1,\n2]\n")

    assert toml_lines.line_of(found, ("a", "b", "missing")) == 2
    assert toml_lines.line_of(found, ("a", "b", "c", 1)) == 3
    assert toml_lines.line_of(found, ("b",)) == 1


def test_a_long_list_is_read_in_no_time():
    """Each line of a list is read once or twice, not once for every line after it."""
    text = "a = [\n" + '  "stripe.refunds.create",\n' * 20_000 + "]\nb = 1\n"
    begun = time.process_time()

    assert toml_lines.lines(text) == {("a",): 1, ("b",): 20_003}
    assert time.process_time() - begun < 5


# Agreement with what a run does

NAMES = st.sampled_from(["cap", "max_calls", "per", "allow", "limits", "expires_in", "nonsense"])
VALUES = st.sampled_from(["1", "-1", '"none"', '"1h"', "[]", "true", '["stripe.refunds.create"]'])
PATTERN = st.sampled_from(["stripe.refunds.create", "stripe.refunds.crate", "meter:outflow", "x"])
LIMIT = st.dictionaries(NAMES, VALUES, max_size=3).map(
    lambda table: "{ " + ", ".join(f"{k} = {v}" for k, v in table.items()) + " }"
)
LIMITS = st.dictionaries(PATTERN, LIMIT, max_size=2).map(
    lambda table: "{ " + ", ".join(f'"{k}" = {v}' for k, v in table.items()) + " }"
)
TABLE = st.tuples(st.dictionaries(NAMES, VALUES, max_size=4), LIMITS).map(
    lambda both: {**both[0], "limits": both[1]}
)
TOP = st.dictionaries(
    st.sampled_from(["durability", "lock_timeout", "proxies", "refunds", "credentials"]),
    st.sampled_from(
        ['"power"', "5", "[]", "{}", '["https://x.example"]', '{ resend = "env://A" }']
    ),
    max_size=2,
)


@given(TOP, TABLE)
def test_a_file_has_a_mistake_if_and_only_if_a_run_refuses_it(top, table):
    """The check finds nothing in what a run takes, and something in what a run does not take."""
    said = [*top.items(), *((f"policies.a.{name}", value) for name, value in table.items())]
    text = "\n".join(f"{name} = {value}" for name, value in said)

    found = config_mistakes.mistakes(text.encode(), "f")

    assert bool(found) is is_refused(text)
    assert all(1 <= mistake.line <= max(1, len(said)) for mistake in found)


def is_refused(text):
    """Return whether the readers of the configuration refuse a text."""
    try:
        config = settings.parse(
            tomllib.loads(text, parse_float=Decimal),
            source="f",
            default=settings.Config("sqlite:///x"),
        )
        for name, table in config.policies.items():
            arguments.policy_from(Policy.from_mapping(table, where=name), {})
    except PolicyError:
        return True
    return False
