"""Does ``keybrake prices`` show what is in force, and does ``pull`` fill the tables, and only them."""

import http.server
import json
import threading
import tomllib
from datetime import UTC, datetime

import click
import pytest

from keybrake.cli.price_tables import toml_block
from keybrake.config import settings
from keybrake.vendors.twilio import calling_codes

TODAY = datetime.now(UTC).date().isoformat()
ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC_test", "TWILIO_AUTH_TOKEN": "tw_secret"}


def sms(*prices, unit="USD"):
    """Return messaging prices as the vendor shapes them: a carrier each, one type of sender."""
    carriers = [
        {
            "carrier": f"carrier {number}",
            "mcc": "310",
            "mnc": str(number),
            "prices": [{"number_type": "local", "base_price": "9", "current_price": price}],
        }
        for number, price in enumerate(prices)
    ]
    return {"price_unit": unit, "outbound_sms_prices": carriers, "inbound_sms_prices": []}


def voice(*entries, unit="USD"):
    """Return voice prices as the vendor shapes them, from (price, prefix, ...)."""
    listed = [
        {
            "destination_prefixes": list(prefixes),
            "origination_prefixes": ["ALL"],
            "friendly_name": "Programmable Outbound Minute",
            "base_price": price,
            "current_price": price,
        }
        for price, *prefixes in entries
    ]
    return {"price_unit": unit, "outbound_prefix_prices": listed, "inbound_call_prices": []}


def numbers(unit="USD", **prices):
    """Return prices of numbers as the vendor shapes them."""
    listed = [
        {"number_type": kind.replace("_", " "), "base_price": price, "current_price": price}
        for kind, price in prices.items()
    ]
    return {"price_unit": unit, "phone_number_prices": listed}


class Pricing(http.server.ThreadingHTTPServer):
    """A stand-in for the vendor's Pricing API: what it holds, what it was asked, what it fails."""

    daemon_threads = True

    def __init__(self):
        self.held = {
            "/v1/Messaging/Countries/US": sms("0.0079", "0.0083"),
            "/v1/Messaging/Countries/CA": sms("0.0085"),
            "/v1/Messaging/Countries/JM": sms("0.2"),
            "/v1/Messaging/Countries/GB": sms("0.0524"),
            "/v2/Voice/Countries/US": voice(("0.014", "1"), ("0.1", "1907", "1808")),
            "/v2/Voice/Countries/CA": voice(("0.013", "1"), ("0.2", "1867")),
            "/v2/Voice/Countries/JM": voice(("0.3", "1876", "1658")),
            "/v2/Voice/Countries/GB": voice(("0.0158", "44"), ("0.03", "447")),
            "/v1/PhoneNumbers/Countries/US": numbers(local="1.15", toll_free="2.15"),
            "/v1/PhoneNumbers/Countries/GB": numbers(mobile="1.15"),
        }
        self.asked = []
        self.fails = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self):
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.command, self.path, self.headers["Authorization"]))
        status, body = 404, {"code": 20404}
        if self.path in server.held:
            status, body = 200, server.held[self.path]
        if server.fails:
            status = server.fails.pop(0)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{server.url}/elsewhere")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def api():
    """Start the stand-in."""
    with Pricing() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def pull(cli, api):
    """Return a function that pulls from the stand-in, as a user does from the vendor."""

    def run(*words, **changes):
        return cli("prices", "pull", "twilio", "--api-base", api.url, *words, **ACCOUNT, **changes)

    return run


def tables(text):
    """Return Twilio's tables of a configuration that loads."""
    given = tomllib.loads(text)
    settings.parse(given, source="test", default=settings.Config(""))
    return given["prices"]["twilio"]


# Shown


def test_every_shipped_figure_has_source_date_and_age(quick):
    """Without a configuration all figures are shipped ones, and each says since when and by whom."""
    shown = quick("prices", "--json").json["prices"]

    assert {f"{one['vendor']}.{one['name']}" for one in shown} >= {
        "twilio.failed_message_fee",
        "resend.per_recipient",
    }
    assert {one["origin"] for one in shown} == {"shipped"}
    assert all(one["source"] and one["as_of"] and one["age_days"] >= 0 for one in shown)
    fee = next(one for one in shown if one["name"] == "failed_message_fee")
    assert (fee["value"], fee["micros"], fee["unit"]) == ("0.001", 1000, "USD a message")


def test_the_operators_figures_replace_a_table_and_say_so(quick, tmp_path):
    """A figure of the operator's names the file, and a shipped one of that name is gone."""
    (tmp_path / "keybrake.toml").write_text(
        '[prices.resend]\nper_recipient = "0.00065"\n[prices.twilio.sms_segment]\n"+1" = "none"\n'
    )

    shown = {f"{one['name']}{one['key']}": one for one in quick("prices", "--json").json["prices"]}

    mine = shown["per_recipient"]
    assert (mine["value"], mine["micros"], mine["origin"]) == ("0.00065", 650, "operator")
    assert "keybrake.toml" in mine["source"]
    assert (shown["sms_segment+1"]["value"], shown["sms_segment+1"]["micros"]) == (None, None)
    assert "none, refused" in quick("prices").out


def test_what_is_missing_names_the_key_to_set(quick, tmp_path):
    """A name without a price, and a table without one for the rest, are told with what to write."""
    told = quick("prices", "--vendor", "twilio")
    assert '[prices.twilio] sms_segment = { "+1" = "USD" }' in told.out
    assert "resend" not in told.out

    (tmp_path / "keybrake.toml").write_text(
        '[prices.twilio]\nsms_segment = { "+1" = "0.0145" }\nvoice_minute = { "*" = "1" }\n'
    )
    settings.set_current(None)
    missing = quick("prices", "--json").json["missing"]

    keys = {one["name"]: one["key"] for one in missing if one["vendor"] == "twilio"}
    assert keys["sms_segment"] == "*"
    assert keys["verify_success"] == ""
    assert "voice_minute" not in keys
    assert "failed_message_fee" not in keys


def test_rates_are_shown_with_source_and_margin(quick, tmp_path):
    """The operator's rate goes first, the ECB's has its day, and each shows what counts."""
    pytest.importorskip("currency_converter")
    (tmp_path / "keybrake.toml").write_text(
        '[money]\necb = true\necb_max_age_days = 3650\nusd_per = { EUR = "1.2" }\n'
    )

    rates = {rate["currency"]: rate for rate in quick("prices", "--json").json["rates"]}

    assert rates["EUR"]["origin"] == "operator"
    assert (rates["EUR"]["usd_per_unit"], rates["EUR"]["with_margin"]) == ("1.2", "1.224")
    assert rates["JPY"]["origin"] == "ecb"
    assert rates["JPY"]["in_force"]
    assert rates["JPY"]["age_days"] >= 0
    assert "European Central Bank" in quick("prices").out


def test_a_rate_that_is_too_old_is_shown_as_refused(quick, tmp_path):
    """The table says of an old rate that it does not count."""
    pytest.importorskip("currency_converter")
    (tmp_path / "keybrake.toml").write_text("[money]\necb = true\necb_max_age_days = 1\n")

    told = quick("prices")

    assert "too old, refused" in told.out
    assert "no rates" not in told.out
    assert not any(rate["in_force"] for rate in quick("prices", "--json").json["rates"])


def test_a_terminal_is_not_harmed_by_a_path(cli, tmp_path):
    """The name of a configuration file comes out as harmless text."""
    file = tmp_path / "evil\x1b]0;x\x07.toml"
    file.write_text('[prices.resend]\nper_recipient = "0.001"\n[money]\nusd_per = { EUR = "1" }\n')

    told = cli("prices", KEYBRAKE_CONFIG=str(file))

    assert told.code == 0
    assert "\x1b" not in told.out


def test_nothing_missing_is_said_with_nothing(quick, tmp_path):
    """A vendor whose calls all have a price has no list of missing ones."""
    (tmp_path / "keybrake.toml").write_text('[prices.resend]\nendpoint = { "*" = "1" }\n')

    told = quick("prices", "--vendor", "resend")

    assert told.code == 0
    assert "missing" not in told.out


def test_a_day_that_is_none_has_no_age(quick, pull, tmp_path):
    """Where somebody has written something else for a day, no age is made of it."""
    file = tmp_path / "keybrake.toml"
    pull("--country", "GB", "--write")
    file.write_text(file.read_text().replace(TODAY, "2026-99-99"))

    shown = {f"{p['name']}{p['key']}": p for p in quick("prices", "--json").json["prices"]}

    assert shown["sms_segment+44"]["age_days"] is None


def test_marks_within_a_text_are_no_tables():
    """Marks with something else than tables between them are told, not overwritten."""
    text = f"{toml_block.BEGIN}\nno toml\n{toml_block.END}\n"
    with pytest.raises(click.ClickException, match="cannot be read"):
        toml_block.figures_in(text)


# Pulled


def test_a_pull_prints_tables_to_paste(pull, api):
    """The tables load as they are printed, with the dearest of carriers and of countries alike."""
    told = pull("--country", "US", "--country", "gb")

    found = tables(told.out)
    assert told.code == 0
    assert found["sms_segment"]["+1"] == "0.0085"  # CA's, which no prefix tells from US's
    assert found["sms_segment"]["+44"] == "0.0524"
    assert found["voice_minute"]["+1"] == "0.014"
    assert (found["voice_minute"]["+1867"], found["voice_minute"]["+447"]) == ("0.2", "0.03")
    assert found["number_month"] == {
        "GB:mobile": "1.15",
        "US:local": "1.15",
        "US:tollfree": "2.15",
    }
    assert f"# CA US, {TODAY}" in told.out
    assert {method for method, _, _ in api.asked} == {"GET"}


def test_a_cheaper_country_does_not_cover_a_dearer_one(pull, tmp_path):
    """With US prices alone, Jamaica has none in writing, and a message there is refused."""
    found = tables(pull("--country", "US").out)
    assert found["sms_segment"]["+1876"] == found["voice_minute"]["+1658"] == "none"

    pull("--country", "US", "--write")
    prices = settings.parse(
        tomllib.loads((tmp_path / "keybrake.toml").read_text()),
        source="t",
        default=settings.Config(""),
    ).money.prices
    assert prices.longest("twilio", "sms_segment", "+14155550100") == 8500
    assert prices.longest("twilio", "sms_segment", "+18765550100") is None
    assert prices.longest("twilio", "voice_minute", "+18765550100") is None

    pull("--country", "JM", "--write")
    found = tables((tmp_path / "keybrake.toml").read_text())
    assert (found["sms_segment"]["+1876"], found["sms_segment"]["+1658"]) == ("0.2", "0.2")
    assert (found["sms_segment"]["+1"], found["sms_segment"]["+1809"]) == ("0.0085", "none")


def test_the_credential_goes_in_the_header_of_reads(pull, api):
    """The pair of the environment is sent as the vendor wants it, and shown nowhere."""
    told = pull("--country", "GB", "--json")

    assert {sent for _, _, sent in api.asked} == {"Basic QUNfdGVzdDp0d19zZWNyZXQ="}
    assert "tw_secret" not in told.out + told.err


def test_an_api_key_does_as_well(cli, api):
    """TWILIO_API_KEY with TWILIO_API_SECRET is a credential, too."""
    keys = {"TWILIO_API_KEY": "SK_test", "TWILIO_API_SECRET": "s", "TWILIO_AUTH_TOKEN": ""}
    told = cli(
        "prices", "pull", "twilio", "--country", "GB", "--api-base", api.url, "--json", **keys
    )

    assert told.code == 0
    assert {sent for _, _, sent in api.asked} == {"Basic U0tfdGVzdDpz"}
    price = {"name": "sms_segment", "key": "+44", "usd": "0.0524", "countries": ["GB"]}
    assert {**price, "as_of": TODAY} in told.json


def test_all_reads_the_lists_page_by_page(pull, api):
    """--all asks for what the vendor lists, over all of its pages, and on the host that was named."""
    lists = ("/v1/Messaging/Countries", "/v2/Voice/Countries", "/v1/PhoneNumbers/Countries")
    for path in lists:
        after = f"https://pricing.twilio.com{path}?PageSize=1000&Page=1&PageToken=x"
        api.held[f"{path}?PageSize=1000"] = {
            "countries": [{"iso_country": "US"}],
            "meta": {"next_page_url": after},
        }
        api.held[after.removeprefix("https://pricing.twilio.com")] = {
            "countries": [{"iso_country": "GB"}],
            "meta": {"next_page_url": None},
        }

    found = tables(pull("--all").out)

    assert found["sms_segment"]["+44"] == "0.0524"
    assert found["sms_segment"]["+1"] == "0.0083"
    assert len([path for _, path, _ in api.asked if "PageToken" in path]) == 3


def test_another_currency_is_converted_or_refused(pull, api, tmp_path):
    """Prices in euros become dollars by the operator's rate, rounded up; without one, nothing is written."""
    api.held["/v1/Messaging/Countries/GB"] = sms("0.0333", unit="eur")

    told = pull("--country", "GB", "--write")
    assert told.code == 1
    assert "are in EUR, and there is no rate for EUR; a person has to add EUR" in told.err
    assert not (tmp_path / "keybrake.toml").exists()

    (tmp_path / "keybrake.toml").write_text(
        '[money]\nmargin_bps = 0\nusd_per = { EUR = "1.1172" }\n'
    )
    assert tables(pull("--country", "GB").out)["sms_segment"]["+44"] == "0.037203"


MINE = """# mine, and it stays
ledger = "sqlite:///ledger.db"   # here

[prices.twilio]
failed_message_fee = "0.002"     # ask Bob
"""


def test_write_changes_nothing_but_what_is_between_the_marks(pull, api, tmp_path):
    """Comments and settings stay to the letter, below the marks as well, over any number of pulls."""
    file = tmp_path / "keybrake.toml"
    file.write_text(MINE)
    file.chmod(0o640)

    assert pull("--country", "GB", "--write").code == 0
    below = '\n# below\n[policies.p]\ncap = 5  # "five"\n'
    with file.open("a") as stream:
        stream.write(below)
    api.held["/v1/Messaging/Countries/GB"] = sms("0.06")
    told = pull("--country", "GB", "--country", "US", "--write")

    text = file.read_text()
    assert told.code == 0
    assert "keybrake.toml" in told.out
    assert text.startswith(MINE)
    assert text.endswith(f"{toml_block.END}\n{below}")
    assert text.count(toml_block.BEGIN) == 1
    found = tables(text)
    assert (found["sms_segment"]["+44"], found["sms_segment"]["+1"]) == ("0.06", "0.0085")
    assert found["failed_message_fee"] == "0.002"
    assert file.stat().st_mode & 0o777 == 0o640
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".keybrake.toml")]


def test_a_pull_keeps_what_was_pulled_of_other_countries(pull, api, tmp_path, quick):
    """Prices of one country stay while another's are renewed, each with its own day."""
    file = tmp_path / "keybrake.toml"
    pull("--country", "GB", "--write")
    file.write_text(file.read_text().replace(TODAY, "2026-01-02"))
    api.held["/v2/Voice/Countries/US"] = voice(("0.02", "1"))
    pull("--country", "US", "--write")

    shown = {f"{p['name']}{p['key']}": p for p in quick("prices", "--json").json["prices"]}
    assert shown["sms_segment+44"]["as_of"] == "2026-01-02"
    assert shown["sms_segment+44"]["age_days"] > 0
    assert shown["sms_segment+1"]["as_of"] == TODAY
    assert "voice_minute+1907" not in shown  # no longer the vendor's


def test_line_ends_of_the_file_are_kept(pull, tmp_path):
    """A file with carriage returns has them in the pulled part, too, and can be pulled into again."""
    file = tmp_path / "keybrake.toml"
    file.write_bytes(b"# mine\r\nlock_timeout = 3\r\n")
    for _ in range(2):
        assert pull("--country", "GB", "--write").code == 0

    text = file.read_bytes()
    assert text.count(b"\r\n") == text.count(b"\n")
    assert text.count(toml_block.BEGIN.encode()) == 1


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ('[prices.twilio]\nsms_segment = { "+1" = "1" }\n', "with the pulled prices it cannot be read"),
        (f"{toml_block.BEGIN}\n", "are not one pair"),
        (f"{toml_block.BEGIN}\n{toml_block.END}\n" * 2, "are not one pair"),
        (f"[prices.resend]\n{toml_block.BEGIN}\n{toml_block.END}\nper_recipient = '1'\n", "move it up"),
    ],
)  # fmt: skip
def test_a_file_that_would_say_something_else_is_left_alone(pull, tmp_path, before, told):
    """Where the tables cannot be put in without harm, the file stays and the reason is told."""
    file = tmp_path / "keybrake.toml"
    file.write_text(before)

    answer = pull("--country", "GB", "--write")

    assert answer.code == 1
    assert told in answer.err
    assert answer.err.count("\n") == 1
    assert file.read_text() == before


def test_output_writes_a_file_of_its_own(pull, tmp_path):
    """--output writes the tables to a new file, and over one that is there with --force only."""
    file = tmp_path / "rates.toml"
    assert pull("--country", "GB", "--output", "rates.toml").out == "wrote rates.toml\n"
    assert tables(file.read_text())["sms_segment"]["+44"] == "0.0524"

    assert pull("--country", "GB", "--output", "rates.toml").code == 1
    assert pull("--country", "GB", "--output", "rates.toml", "--force").code == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "say which prices"),
        (["--country", "GB", "--all"], 2, "say which prices"),
        (["--country", "GBR"], 2, "is not an ISO code"),
        (["--country", "g\u0130"], 2, "is not an ISO code"),
        (["--country", "UK"], 1, "are the countries right? GB, not UK"),
        (["--country", "GB", "--write", "--output", "x"], 2, "exclude each other"),
        (["--country", "GB", "--api-base", "http://example.com"], 2, "the credential goes nowhere else"),
        (["--country", "GB", "--api-base", "https://example.com"], 2, "the credential goes nowhere else"),
        (["--country", "GB", "--api-base", "http://127.0.0.1@example.com"], 2, "goes nowhere else"),
        (["--country", "GB", "--api-base", "http://127.0.0.1:1"], 1, "did not answer"),
    ],
)  # fmt: skip
def test_what_cannot_be_pulled_is_told(pull, words, code, told):
    """Bad arguments and a vendor that is not there end with one line, and nothing is printed."""
    answer = pull(*words)

    assert (answer.code, answer.out) == (code, "")
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_a_missing_credential_names_what_to_set(cli):
    """Without a credential nothing is sent."""
    nothing = dict.fromkeys(
        ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_API_KEY", "TWILIO_API_SECRET"], ""
    )
    told = cli("prices", "pull", "twilio", "--country", "GB", **nothing)

    assert told.code == 1
    assert "set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN" in told.err


def test_a_busy_vendor_is_asked_again(pull, api):
    """A 429 or a 503 is a read that may be repeated."""
    api.fails = [429, 503]

    assert pull("--country", "GB").code == 0


@pytest.mark.parametrize(
    ("status", "told"), [(401, "is the credential right?"), (302, "answered 302"), (400, "400")]
)
def test_an_answer_that_is_no_answer_ends_the_pull(pull, api, tmp_path, status, told):
    """A refused credential or a redirect writes nothing, and no redirect is followed."""
    api.fails = [status]

    answer = pull("--country", "GB", "--write")

    assert answer.code == 1
    assert told in answer.err
    assert len(api.asked) == 1
    assert not (tmp_path / "keybrake.toml").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        {},
        {"price_unit": "USD"},
        sms("-0.01"),
        sms("1e3"),
        sms("free"),
        sms(None) | {"outbound_sms_prices": [{"prices": [{"current_price": None}]}]},
        {"price_unit": "USD", "outbound_sms_prices": [5]},
        {"price_unit": "USD", "outbound_sms_prices": 5},
    ],
    ids=str,
)
def test_an_answer_that_is_not_understood_is_never_guessed(pull, api, tmp_path, body):
    """A price that cannot be read ends the pull; no other figure is taken for it."""
    api.held["/v1/Messaging/Countries/GB"] = body

    answer = pull("--country", "GB", "--write")

    assert answer.code == 1
    assert "is not understood" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "keybrake.toml").exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/Voice/Countries/GB", voice(("0.01", "44x"))),
        ("/v2/Voice/Countries/GB", voice(("0.01", "0044"))),
        ("/v1/PhoneNumbers/Countries/GB", numbers(_="1")),
    ],
)
def test_a_key_that_is_not_understood_is_never_guessed(pull, api, path, body):
    """A prefix or a type of number that cannot be read ends the pull."""
    api.held[path] = body

    answer = pull("--country", "GB")

    assert (answer.code, answer.out) == (1, "")
    assert f"{path} is not understood" in answer.err


ENDLESS = "https://pricing.twilio.com/v1/Messaging/Countries?PageSize=1000"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ({}, "is not understood"),
        ({"countries": [{}]}, "is not understood"),
        ({"countries": [{"iso_country": "../x"}]}, "'../x' is no country"),
        ({"countries": [], "meta": {"next_page_url": ENDLESS}}, "more than 100 pages"),
    ],
)
def test_a_list_that_is_not_understood_ends_the_pull(pull, api, page, told):
    """A list without its countries, with odd ones or without an end is told."""
    api.held["/v1/Messaging/Countries?PageSize=1000"] = page

    answer = pull("--all")

    assert answer.code == 1
    assert told in answer.err


def test_a_vendor_that_stays_busy_is_told(pull, api):
    """After a few tries the pull gives up."""
    api.fails = [503] * 9

    answer = pull("--country", "GB")

    assert answer.code == 1
    assert "answered 503" in answer.err
    assert len(api.asked) < 9


def test_a_country_nobody_can_dial_is_told(pull, api):
    """Prices of a country without a known calling code are not filed under any other."""
    api.held["/v1/Messaging/Countries/ZZ"] = sms("0.1")
    api.held["/v1/PhoneNumbers/Countries/ZZ"] = numbers(local="3")

    told = pull("--country", "ZZ")

    assert tables(told.out) == {"number_month": {"ZZ:local": "3"}}
    assert "no sms_segment for ZZ" in told.err


def test_a_price_without_discount_is_the_list_price(pull, api):
    """Where no current price is named, the base price is taken, which is no lower."""
    api.held["/v1/Messaging/Countries/GB"] = sms(None)

    assert tables(pull("--country", "GB").out)["sms_segment"]["+44"] == "9"


def test_a_country_without_numbers_is_told(pull, api):
    """What the vendor does not sell in a country is said, and the rest is pulled."""
    told = pull("--country", "JM")

    assert told.code == 0
    assert "no number_month for JM: Twilio lists none" in told.err
    assert "number_month" not in tables(told.out)


def test_a_terminal_shows_how_far_it_is(at_terminal, api):
    """A person at a terminal gets the tables as well, progress and all."""
    told = at_terminal(
        "prices", "pull", "twilio", "--country", "GB", "--api-base", api.url, **ACCOUNT
    )

    assert told.code == 0
    assert "asking Twilio" in told.out
    assert '"+44" = "0.0524"' in told.out


# Calling codes


def test_no_calling_code_begins_another():
    """But for the shares of one code, no country's prefix hides another's."""
    codes = calling_codes.prefixes()

    hidden = {
        (outer, inner)
        for inner, theirs in codes.items()
        for outer, ours in codes.items()
        for theirs_one in theirs
        for our_one in ours
        if theirs_one != our_one and theirs_one.startswith(our_one)
    }
    assert {outer for outer, _ in hidden} == {"US", "CA", "RU"}
    assert ("RU", "KZ") in hidden
    assert len(codes) > 240
    assert calling_codes.sharing("GB") == {"GB", "GG", "IM", "JE"}
    assert calling_codes.sharing("ZZ") == {"ZZ"}
