"""What is a Twilio call, and what can it cost at most?"""

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keybrake
from keybrake.config import settings
from keybrake.model.call import Attempt, Effect, Lookup, Meter, Position, Reply, Request, State
from keybrake.testing import FakeTwilio
from keybrake.vendors import VENDORS
from tests._each import each
from tests.vendors._twilio import ACCOUNT, API, price_all

SMS = {"To": "+14155550100", "From": "+14155550101", "Body": "hello"}
CALL = {"To": "+14155550100", "From": "+14155550101", "Url": "https://example.com"}
VERIFY = "https://verify.twilio.com/v2/Services/VA1"


@pytest.fixture(autouse=True)
def _prices():
    """Have the prices of the examples in force."""
    price_all()


def describe(method, url, params=None, **more):
    """Describe one call with the configuration in force."""
    request = Request("twilio", method, url, {} if params is None else params, **more)
    return VENDORS["twilio"].describe(request, settings.current().money)


def outcome(call, status, body):
    """Say how a call ended whose only attempt was answered so."""
    reply = Reply(status, {}, json.dumps(body), (Attempt(status),))
    return VENDORS["twilio"].outcome(call, reply, settings.current().money)


@each(
    "host",
    [
        "https://api.twilio.com",
        "https://api.ie1.twilio.com",
        "https://api.dublin.ie1.twilio.com",
        "https://API.Twilio.com",
        "https://api.twilio.com.",
        "https://api.twilio.com:443",
        "http://127.0.0.1:8080",
        "https://api.twilio.com.example.org",
    ],
)
def test_an_endpoint_is_found_at_every_edge(host):
    """Regions and edges change nothing about what a call costs, and no other host makes it free."""
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    call = describe("POST", host + path, SMS)

    assert (call.endpoint, call.effect) == ("twilio.messages.create", Effect.MONEY)
    assert (call.path, call.account, call.value_micros) == (path, ACCOUNT, 14_500)
    assert (call.meter, call.currency) == (Meter.USAGE, "usd")


@each(
    ("method", "url", "endpoint", "effect"),
    [
        ("GET", f"{API}/Messages.json", "twilio.messages.list", Effect.READ),
        ("GET", f"{API}/Messages/SM1.json", "twilio.messages.retrieve", Effect.READ),
        ("GET", f"{API}/Messages/SM1", "twilio.unlisted.get", Effect.READ),
        ("GET", "https://chat.ie1.twilio.com/v2/Services", "twilio.chat.services.list", Effect.READ),
        ("GET", "https://CHAT.twilio.com/v2/Services", "twilio.chat.services.list", Effect.READ),
        ("GET", "https://verify.dublin.ie1.twilio.com/v2/Services", "twilio.verify.services.list", Effect.READ),
        ("POST", f"{API}/Messages", "twilio.unlisted.post", Effect.UNCLASSIFIED),
        ("POST", f"{API}/Messages.JSON", "twilio.unlisted.post", Effect.UNCLASSIFIED),
        ("PATCH", f"{API}/Messages.json", "twilio.unlisted.patch", Effect.UNCLASSIFIED),
        ("HEAD", f"{API}/Messages.json", "twilio.unlisted.head", Effect.UNCLASSIFIED),
        ("DELETE", f"{API}/Messages/SM1.json", "twilio.messages.delete", Effect.UNCLASSIFIED),
        ("DELETE", f"{API}/IncomingPhoneNumbers/PN1.json", "twilio.incoming_phone_numbers.delete", Effect.FREE),
        ("POST", f"{API}/Messages/SM1/Feedback.json", "twilio.messages.feedback.create", Effect.FREE),
        ("GET", f"{API}/Usage/Records/Today.json", "twilio.usage.records.today.list", Effect.READ),
        ("POST", "https://api.twilio.com/2010-04-01/Accounts.json", "twilio.accounts.create", Effect.AUTHORITY),
        ("POST", f"{API}/Keys.json", "twilio.keys.create", Effect.AUTHORITY),
        ("POST", f"{API}/SigningKeys.json", "twilio.signing_keys.create", Effect.AUTHORITY),
        ("POST", "https://iam.twilio.com/v1/Keys", "twilio.iam.keys.create", Effect.AUTHORITY),
        ("POST", f"{API}/Calls/CA1/Payments.json", "twilio.calls.payments.create", Effect.AUTHORITY),
        ("POST", "https://numbers.twilio.com/v2/ShortCodes/Applications", "twilio.numbers.short_codes.applications.create", Effect.AUTHORITY),
        ("POST", "https://oauth.twilio.com/v2/token", "twilio.oauth.token.create", Effect.FREE),
    ],
)  # fmt: skip
def test_what_an_endpoint_is(method, url, endpoint, effect):
    """Every method and path has one name and one effect."""
    call = describe(method, url)

    assert (call.endpoint, call.effect, call.refusal) == (endpoint, effect, None)


@each(
    "path",
    [
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages/../Messages.json",
        f"/2010-04-01//Accounts/{ACCOUNT}/Messages.json",
        f"/2010-04-01/Accounts/{ACCOUNT}/%4Dessages.json",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json/",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json#x",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages%2ejson",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages/../../Keys.json",
        "/v2/PhoneNumbers/+1415 5550100",
    ],
)
@each("method", ["GET", "POST"])
def test_an_odd_path_is_refused(method, path):
    """A path that two parsers could read differently goes nowhere."""
    call = describe(method, f"https://api.twilio.com{path}", SMS)

    assert call.refusal[0] == "path_not_canonical"


@pytest.mark.parametrize("number", ["+14155550100", "%2B14155550100"])
def test_a_number_may_stand_in_a_path(number):
    """A plus sign is no odd thing in the path of a look-up, escaped or not."""
    url = f"https://lookups.twilio.com/v2/PhoneNumbers/{number}"

    assert describe("GET", url, {"Fields": "caller_name"}).value_micros == 10_000


class Channel(enum.StrEnum):
    """A text by another type."""

    TEXT = "hello"


@each(
    ("change", "value"),
    [
        ({}, 14_500),
        ({"Body": Channel.TEXT}, 14_500),
        ({"Body": "a" * 161}, 29_000),
        ({"Body": 5}, 14_500),
        ({"To": "+1 (415) 555-0100"}, 14_500),
        ({"To": "+447700900000"}, 52_400),
        ({"From": "ACME"}, 14_500),
        ({"From": None, "MessagingServiceSid": "MG1"}, 14_500),
        # The text is put together at Twilio: 25 parts at worst.
        ({"Body": None, "ContentSid": "HX1"}, 362_500),
        ({"ContentSid": "HX1"}, 362_500),
        ({"Body": None}, 362_500),
        ({"Body": ""}, 362_500),
        ({"ShortenUrls": True}, 362_500),
        ({"ShortenUrls": "true"}, 362_500),
        ({"ShortenUrls": False}, 14_500),
        ({"MediaUrl": "https://example.com/a.png"}, 30_000),
        ({"MediaUrl": ["https://example.com/a.png"] * 10}, 30_000),
        ({"MediaUrl": []}, 14_500),
        ({"SendAsMms": True}, 30_000),
        ({"To": "whatsapp:+992000000000"}, 5_000),
        ({"To": "WhatsApp:+992000000000", "MediaUrl": "https://example.com/a.png"}, 5_000),
        ({"To": "whatsapp:+14155550100", "ContentSid": "HX1", "Body": None}, 155_000),
    ],
)  # fmt: skip
def test_messages(change, value):
    """A message costs what its channel, destination and text make it, at worst."""
    call = describe("POST", f"{API}/Messages.json", {**SMS, **change})

    assert (call.refusal, call.value_micros) == (None, value)


@each(
    ("params", "reason"),
    [
        ({**SMS, "To": "+992372123456"}, "no_rate"),
        ({**SMS, "To": "+447700900000", "MediaUrl": "https://example.com/a.png"}, "no_rate"),
        ({**SMS, "To": "messenger:1234"}, "no_rate"),
        ({**SMS, "To": "rcs:+14155550100"}, "no_rate"),
        ({**SMS, "To": "4155550100"}, "no_rate"),
        ({**SMS, "To": "+\uff11\uff14155550100"}, "no_rate"),
        ({**SMS, "To": None}, "no_rate"),
        ({**SMS, "To": ["+14155550100", "+447700900000"]}, "invalid_amount"),
        ({**SMS, "to": "+447700900000"}, "invalid_amount"),
        ({**SMS, b"To": "+447700900000"}, "invalid_amount"),
        ({**SMS, "To[]": "+447700900000"}, "invalid_amount"),
        ({**SMS, "Body": b"hello"}, "invalid_amount"),
        ({**SMS, "Body": {"a": 1}}, "invalid_amount"),
        ("To=%2B14155550100&Body=hello", "unknown_amount"),
        (None, None),
        ([{"x": ["1"]}, SMS], "unknown_amount"),
    ],
)
def test_messages_nobody_can_price(params, reason):
    """Where channel, destination or text could be read in two ways, nothing is guessed."""
    call = describe("POST", f"{API}/Messages.json", params)

    assert call.refusal[0] == (reason or "no_rate")


def test_another_channel_by_the_operators_word():
    """A channel without a table of its own has the price the operator wrote for the endpoint."""
    price_all(endpoint={"twilio.messages.create": "0.02"})

    assert (
        describe("POST", f"{API}/Messages.json", {**SMS, "To": "messenger:1"}).value_micros
        == 20_000
    )
    # Which is no price for a text message to just anywhere.
    refused = describe("POST", f"{API}/Messages.json", {**SMS, "To": "+992372123456"})
    assert refused.refusal[0] == "no_rate"


def test_a_missing_price_is_named():
    """The refusal says what a person has to write, and where."""
    call = describe("POST", f"{API}/Messages.json", {**SMS, "To": "+992372123456"})

    reason, words = call.refusal
    assert reason == "no_rate"
    assert "sms_segment" in words
    assert "[prices.twilio]" in words
    assert "372123456" not in words


@each(
    ("change", "value"),
    [
        ({}, 240 * 14_000),
        ({"TimeLimit": 60}, 14_000),
        ({"TimeLimit": "61"}, 28_000),
        ({"TimeLimit": 1}, 14_000),
        # What no limit would be is none.
        ({"TimeLimit": 0}, 240 * 14_000),
        ({"To": "+447700900000", "TimeLimit": 3600}, 60 * 15_800),
        ({"Url": None, "Twiml": "<Response><Say>hello</Say></Response>", "TimeLimit": 60}, 14_000),
    ],
)
@each("path", ["Calls.json", "Conferences/CF1/Participants.json"])
def test_calls(change, value, path):
    """A call costs every minute that it may go on for."""
    call = describe("POST", f"{API}/{path}", {**CALL, **change})

    assert (call.refusal, call.value_micros) == (None, value)


@each(
    ("change", "reason"),
    [
        ({"To": "+992372123456"}, "no_rate"),
        ({"To": "client:alice"}, "no_rate"),
        ({"To": "sip:alice@example.com"}, "no_rate"),
        ({"TimeLimit": -5}, "invalid_amount"),
        ({"TimeLimit": "1h"}, "invalid_amount"),
        ({"TimeLimit": True}, "invalid_amount"),
        ({"TimeLimit": 60.5}, "invalid_amount"),
        ({"TimeLimit": "\uff16\uff10"}, "invalid_amount"),
        ({"TimeLimit": 10**9}, "invalid_amount"),
        ({"TimeLimit": [60, 3600]}, "invalid_amount"),
        ({"Twiml": "<Response><Dial>+447700900000</Dial></Response>"}, "no_rate"),
        ({"Twiml": "<Response><Pay/></Response>"}, "no_rate"),
    ],
)
def test_calls_nobody_can_price(change, reason):
    """A call to an unknown place, for an unknown time, or that causes more calls is refused."""
    call = describe("POST", f"{API}/Calls.json", {**CALL, **change})

    assert call.refusal[0] == reason


def test_twiml_that_dials_by_the_operators_word():
    """TwiML that causes more calls costs what the operator wrote, and no less than the call itself."""
    price_all(endpoint={"twilio.calls.create": "1.00"})
    twiml = {"Twiml": "<Response><Dial>+447700900000</Dial></Response>", "TimeLimit": 60}

    assert describe("POST", f"{API}/Calls.json", {**CALL, **twiml}).value_micros == 1_000_000
    long = {**CALL, **twiml, "TimeLimit": 14_400}
    assert describe("POST", f"{API}/Calls.json", long).value_micros == 3_360_000


def test_new_twiml_that_dials_costs_each_time(ledger_url):
    """A live call that is sent to dial elsewhere causes more calls, as often as it is sent."""
    keybrake.configure(
        prices={
            "twilio": {
                "voice_minute": {"+1": "0.01"},
                "endpoint": {"twilio.calls.update": "0.50"},
            }
        }
    )
    dial = "<Response><Dial>+19005550100</Dial></Response>"
    with FakeTwilio() as fake, keybrake.run("caller", cap="1.20") as run:
        client = fake.client()
        live = client.calls.create(
            to="+14155550100", from_="+14155550101", time_limit=60, url="http://x/"
        )
        client.calls(live.sid).update(twiml=dial)
        client.calls(live.sid).update(twiml=dial)
        with pytest.raises(keybrake.CapExceeded):
            client.calls(live.sid).update(twiml=dial)

    assert str(run.spent) == "1.01"


@each(
    ("path", "params", "value"),
    [
        ("", {"PhoneNumber": "+18089255327"}, 1_150_000),
        ("", {"AreaCode": "415"}, 1_150_000),
        ("", {"AreaCode": 415}, 1_150_000),
        ("", {"PhoneNumber": "+18005550100"}, 2_150_000),
        ("", {"AreaCode": "888"}, 2_150_000),
        ("/Local", {"PhoneNumber": "+14155550100"}, 1_150_000),
        ("/TollFree", {"PhoneNumber": "+18005550100"}, 2_150_000),
        ("/Mobile", {"PhoneNumber": "+14155550100"}, None),
        ("", {"PhoneNumber": "+447700900000"}, None),
        ("", {"PhoneNumber": "4155550100"}, None),
        ("", {}, None),
        # Jamaica has an area code of its own within +1.
        ("", {"PhoneNumber": "+18765550100"}, None),
    ],
)
def test_numbers(path, params, value):
    """A number costs its first month, and more of it follows; a price nobody knows is refused."""
    call = describe("POST", f"{API}/IncomingPhoneNumbers{path}.json", params)

    if value is None:
        assert call.refusal[0] == "no_rate"
    else:
        assert (call.refusal, call.value_micros, call.recurring) == (None, value, True)


def test_a_number_of_a_type_nobody_told():
    """Where the number alone does not say its type, the dearest one counts."""
    price_all(number_month={"GB:local": "1.15", "GB:mobile": "1.60", "GG:local": "9"})
    url = f"{API}/IncomingPhoneNumbers"

    # Guernsey's numbers begin as those of Great Britain do.
    assert (
        describe("POST", f"{url}.json", {"PhoneNumber": "+442079460000"}).value_micros == 9_000_000
    )
    mobile = describe("POST", f"{url}/Mobile.json", {"PhoneNumber": "+447700900000"})
    assert mobile.value_micros == 1_600_000


@each(
    ("version", "params", "value"),
    [
        ("v2", {}, 0),
        ("v2", {"Fields": "validation"}, 0),
        ("v2", {"Fields": "line_type_intelligence,caller_name"}, 18_000),
        ("v2", {"Fields": ["line_type_intelligence", " caller_name "]}, 18_000),
        ("v2", {"fields": "caller_name"}, 10_000),
        ("v2", {"CountryCode": "US"}, 0),
        ("v1", {}, 0),
        ("v1", {"Type": ["caller-name"]}, 10_000),
        ("v2", {"Fields": "sim_swap"}, None),
        ("v1", {"Type": ["carrier"]}, None),
        ("v1", {"AddOns": "whitepages_pro_caller_id"}, None),
        ("v2", None, None),
    ],
)
def test_lookups(version, params, value):
    """A look-up is a GET that costs what it asks for."""
    url = f"https://lookups.twilio.com/{version}/PhoneNumbers/+14155550100"
    call = describe("GET", url, "?" if params is None else params)

    if value is None:
        assert call.refusal is not None
    else:
        assert (call.refusal, call.value_micros) == (None, value)
        assert call.effect is (Effect.MONEY if value else Effect.READ)


def test_many_lookups_at_once():
    """A batch costs the sum of its entries; one without a list of them nobody can price."""
    url = "https://lookups.twilio.com/v2/batch/query"
    entries = [{"phone_number": "+1", "fields": ["caller_name"]}] * 3 + [{"phone_number": "+1"}]

    assert describe("POST", url, {"phone_numbers": entries}).value_micros == 30_000
    assert describe("POST", url, {"phone_numbers": "+1"}).refusal[0] == "unknown_amount"
    assert describe("POST", url, {}).refusal[0] == "unknown_amount"


@pytest.mark.parametrize(
    ("params", "value"),
    [
        ({"To": "+14155550100", "Channel": "sms"}, 58_300),
        ({"To": "+14155550100", "Channel": "call"}, 64_000),
        # WhatsApp falls back on SMS.
        ({"To": "+14155550100", "Channel": "whatsapp"}, 50_000 + 15_000 + 8_300),
        ({"To": "+14155550100", "Channel": "auto"}, 65_000),
        ({"To": "+447700900000", "Channel": "sms"}, None),
        ({"To": "+14155550100", "Channel": "email"}, None),
        ({"To": "ada@example.com", "Channel": "sms"}, None),
    ],
)
def test_verifications(params, value):
    """A verification costs the sending of its code and the success it may lead to."""
    call = describe("POST", f"{VERIFY}/Verifications", params)

    if value is None:
        assert call.refusal[0] == "no_rate"
    else:
        assert (call.refusal, call.value_micros) == (None, value)


@each(
    "url",
    [
        "https://studio.twilio.com/v2/Flows/FW1/Executions",
        "https://notify.twilio.com/v1/Services/IS1/Notifications",
        "https://conversations.twilio.com/v1/Conversations/CH1/Messages",
        "https://video.twilio.com/v1/Rooms",
        "https://proxy.twilio.com/v1/Services/KS1/Sessions",
        "https://messaging.twilio.com/v1/a2p/BrandRegistrations",
        f"{API}/Calls/CA1/Recordings.json",
        f"{API}/Calls/CA1/Streams.json",
    ],
)
def test_what_nobody_can_see_through_has_the_operators_price(url):
    """An endpoint that sets more in motion than it says is refused, or costs what was written down."""
    call = describe("POST", url)
    assert call.refusal[0] == "no_rate"
    assert call.endpoint in call.refusal[1]

    price_all(endpoint={call.endpoint: "0.25"})
    assert describe("POST", url).value_micros == 250_000
    price_all(endpoint={call.endpoint: "none"})
    assert describe("POST", url).refusal[0] == "no_rate"


def test_a_caller_id_is_checked_by_a_call():
    """To add a caller id, Twilio calls that number for a minute."""
    call = describe("POST", f"{API}/OutgoingCallerIds.json", {"PhoneNumber": "+14155550100"})
    assert call.value_micros == 14_000
    made = outcome(call, 200, {"call_sid": "CA1", "validation_code": "1"})
    assert (made.position, made.position_state) == (f"twilio:{ACCOUNT}:CA1", "estimated")


@each(
    ("body", "state", "value"),
    [
        ({"status": "delivered", "price": "-0.00750", "price_unit": "USD"}, "settled", 7_500),
        ({"status": "delivered", "price": "-0.00750", "price_unit": "usd"}, "settled", 7_500),
        ({"status": "delivered", "price": "0.04", "price_unit": "USD"}, "settled", 40_000),
        ({"status": "delivered", "price": "-0.0000001", "price_unit": "USD"}, "settled", 1),
        ({"status": "undelivered", "price": "-0.00750", "price_unit": "USD"}, "settled", 7_500),
        ({"status": "undelivered", "price": None, "price_unit": "USD"}, None, None),
        ({"status": "sent", "num_segments": "0", "price": None}, None, None),
        ({"status": "failed", "price": None}, "settled", 1_000),
        ({"status": "failed", "price": "-0.00750", "price_unit": "USD"}, "settled", 7_500),
        ({"status": "canceled", "price": None}, "released", 0),
        ({"status": "canceled", "price": "-0.00750", "price_unit": "USD"}, "settled", 7_500),
        # Without a rate for what the account is billed in, the estimate goes on to count.
        ({"status": "delivered", "price": "-0.100", "price_unit": "XXX"}, None, None),
        ({"status": "delivered", "price": "-0.100", "price_unit": None}, None, None),
        ({"status": "delivered", "price": "NaN", "price_unit": "USD"}, None, None),
        ({"status": "delivered", "price": True, "price_unit": "USD"}, None, None),
        ({"status": "delivered", "price": {"value": "1"}, "price_unit": "USD"}, None, None),
    ],
)
def test_what_a_message_shows(body, state, value):
    """A read that shows a final price says what the message is worth; nothing else does."""
    call = describe("GET", f"{API}/Messages/SM1.json")
    seen = outcome(call, 200, {"sid": "SM99", **body})

    assert seen.state is State.SETTLED
    if state is None:
        assert (seen.position, seen.value_micros) == (None, None)
    else:
        # By the id in the body: what stood in the path may have been another spelling of it.
        assert (seen.position, seen.observed) == (f"twilio:{ACCOUNT}:SM99", True)
        assert (seen.position_state, seen.value_micros) == (state, value)


def test_a_price_in_the_accounts_own_currency():
    """A price in another currency is converted with the operator's rate, rounded up."""
    keybrake.configure(usd_per={"EUR": "1.1172"}, margin_bps=0)
    call = describe("GET", f"{API}/Messages/SM1.json")
    seen = outcome(
        call, 200, {"sid": "SM1", "status": "sent", "price": "-0.00650", "price_unit": "EUR"}
    )

    assert (seen.value_micros, seen.currency) == (7_262, "eur")


@pytest.mark.parametrize(
    ("body", "state", "value"),
    [
        ({"status": "completed", "price": "-0.200", "price_unit": "USD"}, "settled", 200_000),
        ({"status": "completed", "price": None, "price_unit": "USD"}, None, None),
        ({"status": "in-progress", "price": None}, None, None),
        ({"status": "no-answer", "price": None}, "released", 0),
        ({"status": "busy", "price": "-0.000", "price_unit": "USD"}, "released", 0),
        ({"status": "failed", "price": None}, "released", 0),
        ({"status": "canceled", "price": None}, "released", 0),
    ],
)
def test_what_a_call_shows(body, state, value):
    """A call that was never connected costs nothing; one that was costs its price."""
    call = describe("GET", f"{API}/Calls/CA1.json")
    seen = outcome(call, 200, {"sid": "CA1", **body})

    assert (seen.position_state, seen.value_micros) == (state, value)


@pytest.mark.parametrize("path", ["Messages/SM1.json", "Calls/CA1.json"])
def test_a_change_that_shows_no_price_says_nothing(path):
    """A text that is taken away, or a call that is hung up, is worth what it was."""
    call = describe("POST", f"{API}/{path}", {"Body": "", "Status": "completed"})
    ended = outcome(call, 200, {"sid": "X1", "status": "completed", "price": None})

    assert (ended.state, ended.position, ended.value_micros) == (State.SETTLED, None, None)


@pytest.mark.parametrize("url", [f"{API}/Messages.json", f"{API}/Calls.json"])
def test_a_list_settles_nothing(url):
    """A list is a free read and nothing more."""
    body = {"messages": [{"sid": "SM1", "price": "-1", "price_unit": "USD"}], "sid": "SM1"}
    seen = outcome(describe("GET", url), 200, body)

    assert (seen.position, seen.value_micros) == (None, None)


@each(
    ("status", "body", "state"),
    [
        (201, {}, State.UNKNOWN),
        (201, {"sid": ""}, State.UNKNOWN),
        (201, {"sid": 5}, State.UNKNOWN),
        (204, None, State.UNKNOWN),
        (302, {}, State.UNKNOWN),
        (400, {"code": 21211}, State.VOIDED),
        (401, {"code": 20003}, State.VOIDED),
        (429, {"code": 20429}, State.VOIDED),
        (500, {"code": 20500}, State.UNKNOWN),
        (503, {}, State.UNKNOWN),
    ],
)
def test_how_a_message_ends(status, body, state):
    """Only proof voids a message, and a success that says no id is none to rely on."""
    call = describe("POST", f"{API}/Messages.json", SMS)

    assert outcome(call, status, body).state is state


def _completed(call, found):
    return VENDORS["twilio"].complete(call, found, settings.current().money)


def test_a_live_call_that_is_sent_elsewhere():
    """Where a call goes on to is covered by what it was counted with; an unknown one is looked up."""
    call = describe("POST", f"{API}/Calls/CA1.json", {"Url": "https://example.com/next"})
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/CA1.json"
    assert call.lookup == Lookup(f"twilio:{ACCOUNT}:CA1", path)

    known = _completed(call, Position(call.lookup.known_as, "estimated", 70_000, "usd", None))
    assert (known.value_micros, known.refusal) == (70_000, None)
    found = {"sid": "CA1", "to": "+14155550100", "direction": "outbound-api"}
    assert _completed(call, found).value_micros == 3_360_000
    assert _completed(call, {**found, "direction": "inbound"}).refusal[0] == "no_rate"
    assert _completed(call, {}).refusal[0] == "unknown_amount"


def test_a_live_call_with_a_new_limit():
    """A new limit is priced by where the call goes, and the call is what it may cost then."""
    call = describe("POST", f"{API}/Calls/CA1.json", {"TimeLimit": 120})
    assert call.lookup.known_as is None

    done = _completed(call, {"sid": "CA1", "to": "+14155550100", "direction": "outbound-api"})
    assert (done.value_micros, done.position) == (28_000, f"twilio:{ACCOUNT}:CA1")
    made = outcome(done, 200, {"sid": "CA1", "status": "in-progress", "price": None})
    assert (made.position_state, made.value_micros) == ("estimated", 28_000)


@pytest.mark.parametrize("status", ["completed", "canceled"])
def test_a_live_call_that_is_ended(status):
    """Ending a call needs no look-up and no price."""
    call = describe("POST", f"{API}/Calls/CA1.json", {"Status": status})

    assert (call.refusal, call.value_micros, call.lookup.path) == (None, None, None)


def test_a_second_code_is_counted_by_itself():
    """A verification counts its success once, and every code that is sent for it."""
    call = describe(
        "POST", f"{VERIFY}/Verifications", {"To": "+14155550100", "Channel": "sms"}, account=ACCOUNT
    )
    sent = [{"attempt_sid": "VL1"}]
    first = outcome(call, 201, {"sid": "VE1", "send_code_attempts": sent})
    assert (first.position, first.value_micros) == (f"twilio:{ACCOUNT}:VE1", 58_300)
    more = [*sent, {"attempt_sid": "VL2"}]
    second = outcome(call, 201, {"sid": "VE1", "send_code_attempts": more})
    assert (second.position, second.value_micros) == (f"twilio:{ACCOUNT}:VL2", 8_300)


def test_the_price_of_a_code():
    """The price of a first code moves its verification, that of a further one only itself."""
    call = describe("GET", "https://verify.twilio.com/v2/Attempts/VL1", account=ACCOUNT)
    assert call.lookup == Lookup(known_as=f"twilio:{ACCOUNT}:VL1")
    body = {
        "sid": "VL1",
        "verification_sid": "VE1",
        "conversion_status": "converted",
        "price": {"value": "0.005", "currency": "usd"},
    }
    first = outcome(call, 200, body)
    assert (first.position, first.value_micros) == (f"twilio:{ACCOUNT}:VE1", 55_000)
    assert first.position_state == "settled"
    open_ = outcome(call, 200, {**body, "conversion_status": "unconverted"})
    assert (open_.value_micros, open_.position_state) == (55_000, "estimated")
    known = _completed(call, Position(call.lookup.known_as, "estimated", 8_300, "usd", None))
    own = outcome(known, 200, body)
    assert (own.position, own.value_micros) == (f"twilio:{ACCOUNT}:VL1", 5_000)
    nothing = outcome(call, 200, {**body, "price": {"value": None, "currency": "usd"}})
    assert nothing.position is None


@pytest.mark.parametrize("params", [{"To": "+14155550100"}, {"VerificationSid": "VE1"}])
def test_a_check_of_a_verification_nobody_counted(params):
    """A check that succeeds costs its fee, unless the verification was counted when it began."""
    check = f"{VERIFY}/VerificationCheck"
    call = describe("POST", check, {**params, "Code": "1"}, account=ACCOUNT)
    assert call.value_micros == 50_000
    pending = outcome(call, 200, {"sid": "VE1", "status": "pending"})
    assert (pending.state, pending.value_micros) == (State.SETTLED, 0)
    approved = outcome(call, 200, {"sid": "VE1", "status": "approved"})
    assert (approved.position, approved.value_micros) == (f"twilio:{ACCOUNT}:VE1", 50_000)


def test_a_check_of_a_verification_that_is_counted():
    """The fee for success was set aside when the code was sent."""
    call = describe("POST", f"{VERIFY}/VerificationCheck", {"VerificationSid": "VE1"})
    known = _completed(call, Position(call.lookup.known_as, "estimated", 58_300, "usd", None))

    assert known.value_micros == 58_300
    approved = outcome(known, 200, {"sid": "VE1", "status": "approved"})
    assert (approved.position, approved.value_micros) == (None, 0)


def test_what_costs_something_has_a_row():
    """No row loses its effect unnoticed, and no read costs something but a look-up."""
    rows = VENDORS["twilio"]._places._by_host.rows
    by_effect = {effect: [row for row in rows if row.effect is effect] for effect in Effect}

    assert len(by_effect[Effect.MONEY]) == 45
    assert all(row.method == "GET" for row in by_effect[Effect.READ])
    assert [row.endpoint for row in by_effect[Effect.MONEY] if row.method == "GET"] == [
        "twilio.lookups.phone_numbers.retrieve"
    ] * 2


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
_BODY = st.dictionaries(
    st.sampled_from(
        [
            *("sid", "call_sid", "verification_sid", "attempt_sid", "send_code_attempts", "status"),
            *("price", "price_unit", "value", "currency", "to", "direction", "conversion_status"),
        ]
    ),
    _ANYTHING | st.sampled_from(["SM1", "failed", "-0.0075", "USD", "approved", "outbound-api"]),
)


@given(
    st.sampled_from(
        [
            ("POST", f"{API}/Messages.json"),
            ("POST", f"{API}/Messages/SM1.json"),
            ("GET", f"{API}/Messages/SM1.json"),
            ("POST", f"{API}/Calls/CA1.json"),
            ("GET", f"{API}/Calls/CA1.json"),
            ("GET", f"{API}/Recordings/RE1.json"),
            ("POST", f"{API}/IncomingPhoneNumbers.json"),
            ("POST", f"{VERIFY}/Verifications"),
            ("POST", f"{VERIFY}/VerificationCheck"),
            ("GET", "https://verify.twilio.com/v2/Attempts/VL1"),
        ]
    ),
    st.dictionaries(st.sampled_from(["To", "Body", "Channel", "Status", "TimeLimit"]), _ANYTHING),
    _BODY,
    st.sampled_from([200, 201]),
)
def test_no_answer_breaks_it(place, params, body, status):
    """Whatever an answer or a look-up says, there is an outcome, and none of it is negative."""
    call = describe(*place, params)
    done = _completed(call, body)
    for one in (call, done):
        ended = outcome(one, status, body)
        assert ended.value_micros is None or ended.value_micros >= 0
        assert ended.state in (State.SETTLED, State.UNKNOWN)
        assert ended.position is None or ended.position.startswith("twilio:")


_JAMAICA, _DOMINICAN, _KAZAKHSTAN = "+18765550100", "+18095550100", "+77012345678"
_BY_HAND = {
    "sms_segment": {"+1": "0.0083", "+7": "0.08", "+599": "0.1", "+4": "0.01"},
    "mms_message": {"+1": "0.03", "+7": "0.2"},
    "voice_minute": {"+1": "0.014", "+7": "0.2"},
    "verify_channel": {"sms": {"+1": "0.0083", "+7": "0.08"}},
}


def _to(number, **more):
    return {"To": number, "From": "+14155550101", "Body": "x", **more}


_VERIFY = f"https://verify.twilio.com/v2/Services/VA{'a' * 32}/Verifications"
_WAYS = {
    "sms": (f"{API}/Messages.json", _to),
    "a text made at Twilio": (f"{API}/Messages.json", lambda to: _to(to, ContentSid="HX1")),
    "mms": (f"{API}/Messages.json", lambda to: _to(to, MediaUrl="http://x/y.png")),
    "voice": (f"{API}/Calls.json", lambda to: _to(to, TimeLimit=60)),
    "verify": (_VERIFY, lambda to: {"To": to, "Channel": "sms"}),
}


@each("way", _WAYS)
@each(
    ("number", "code"),
    [(_JAMAICA, "+1876"), (_DOMINICAN, "+1809"), (_KAZAKHSTAN, "+77"), ("+76012345678", "+76"),
     ("+16715550100", "+1671")],
)  # fmt: skip
def test_a_price_by_hand_prices_no_other_country(way, number, code):
    """A price for +1 or +7 is none for a country with a longer code: the refusal says what to do."""
    price_all(**_BY_HAND, verify_success="0.05")
    url, params = _WAYS[way]
    call = describe("POST", url, params(number))

    assert call.refusal[0] == "no_rate"
    assert code in call.refusal[1]
    assert "keybrake prices pull twilio" in call.refusal[1]
    assert describe("POST", url, params("+14155550100")).refusal is None


@each("own", [{"+1876": "0.5"}, {"+18765": "0.5"}, {"*": "0.5"}])
@each("way", _WAYS)
def test_a_price_within_the_countrys_code_prices_it(way, own):
    """The code itself, a longer prefix within it and ``*`` price a number that ``+1`` does not."""
    tables = {name: {"+1": "0.01", **own} for name in _BY_HAND if name != "verify_channel"}
    verify = {"sms": {"+1": "0.01", **own}}
    price_all(**tables, verify_channel=verify, verify_success="0.05", worst_segments_unknown_body=1)
    url, params = _WAYS[way]
    call = describe("POST", url, params(_JAMAICA))

    want = 550_000 if way == "verify" else 500_000
    assert (call.refusal, call.value_micros) == (None, want)


@pytest.mark.parametrize("number", ["+5996550100", "+447700900000"])
def test_half_a_calling_code_prices_nothing(number):
    """A price for +599 or +4 is none for Curaçao (+5996) or Great Britain (+44)."""
    price_all(**_BY_HAND)

    assert describe("POST", f"{API}/Messages.json", _to(number)).refusal[0] == "no_rate"


def test_no_message_goes_out_to_a_country_without_a_price():
    """The refusal comes before the request, and nothing of the cap is taken."""
    price_all(sms_segment={"+1": "0.0083", "+7": "0.08"})
    with FakeTwilio() as fake, keybrake.run("n", cap=1) as run:
        for number in (_JAMAICA, _DOMINICAN, _KAZAKHSTAN):
            with pytest.raises(keybrake.UnknownCost):
                fake.client().messages.create(to=number, from_="+14155550101", body="x")
        assert not fake.journal.entries
    assert str(run.spent) == "0.00"
