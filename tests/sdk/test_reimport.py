"""Do the hooks stay when an SDK is imported anew, or a part of it is reloaded."""

import subprocess
import sys
import textwrap

import pytest

PURGE = """
def purge(name):
    for module in [one for one in sys.modules if one == name or one.startswith(name + ".")]:
        del sys.modules[module]
"""

STRIPE = """
import stripe
def make():
    import stripe
    stripe.api_base, stripe.api_key, stripe.max_network_retries = url, "sk_test_1", 0
    return lambda: stripe.PaymentIntent.create(amount=100, currency="usd")
"""

TWILIO = """
import twilio.rest
def make():
    from twilio.rest import Client
    from twilio.http.http_client import TwilioHttpClient
    class Loopback(TwilioHttpClient):
        def request(self, method, uri, *rest, **named):
            return super().request(method, uri.replace("https://api.twilio.com", url), *rest, **named)
    client = Client("AC" + "5" * 32, "token", http_client=Loopback())
    return lambda: client.messages.create(to="+15558675310", from_="+15005550006", body="a")
"""

RESEND = """
import resend
def make():
    import resend
    resend.api_url, resend.api_key = url, "re_1"
    mail = {"from": "a@example.com", "to": "b@example.com", "subject": "s", "text": "t"}
    return lambda: resend.Emails.send(mail)
"""

WAYS = {
    "purged": "purge(name); __import__(name)",
    "purged-in-part": "[sys.modules.pop(one) for one in chokepoints]; [importlib.import_module(one) for one in chokepoints]; purge(name)",
    "reloaded": "[importlib.reload(sys.modules[one]) for one in chokepoints]",
    # As typeguard's import hook does.
    "found-by-another-finder-first": "sys.meta_path.insert(0, First()); purge(name); __import__(name)",
    "after-the-finders-were-put-back": "sys.meta_path[:] = finders; purge(name); __import__(name)",
    "loaded-when-first-used": "purge(name); lazily(name)",
    "reloaded-twice": "[importlib.reload(sys.modules[one]) for one in chokepoints * 2]",
}

CASES = {
    "stripe": (STRIPE, ["stripe._api_requestor", "stripe._http_client"]),
    "twilio": (TWILIO, ["twilio.base.client_base", "twilio.http.http_client"]),
    "resend": (RESEND, ["resend.request"]),
}

PROGRAM = """
import importlib, importlib.util, os, sys
finders = list(sys.meta_path)
import keybrake
class First:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, path, target)
def lazily(name):
    spec = importlib.util.find_spec(name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
url, ledger, name = sys.argv[1:4]
chokepoints = sys.argv[4:]
{purge}
{sdk}
for one in chokepoints:
    importlib.import_module(one)
prices = {{"twilio": {{"sms_segment": {{"+1": "1"}}}}, "resend": {{"per_recipient": "1"}}}}
def attempt(call):
    try:
        call()
        return "went"
    except keybrake.CapExceeded:
        return "refused"
with keybrake.run("agent", cap=3, ledger=ledger) as run:
    old = make()
    told = [attempt(old)]
    {way}
    new = make()
    told += [attempt(new), attempt(old), attempt(new), attempt(old)]
print(told, run.calls)
keybrake.uninstall()
from keybrake import sdk
print({{state for place, state in sdk.status() if place.startswith(name)}} - {{"waiting", "missing", "not in this version"}})
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vendor", CASES)
def test_hooks_stay(vendor, way, request, ledger_url, tmp_path):
    """Objects of the old modules and of the new ones are counted under one cap."""
    fake = request.getfixturevalue({"stripe": "fake"}.get(vendor, f"fake_{vendor}"))
    sdk, chokepoints = CASES[vendor]
    (tmp_path / "keybrake.toml").write_text(
        '[prices.twilio]\nsms_segment = { "+1" = "1" }\n[prices.resend]\nper_recipient = "1"\n'
    )
    program = PROGRAM.format(purge=textwrap.dedent(PURGE), sdk=textwrap.dedent(sdk), way=WAYS[way])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, fake.url, ledger_url, vendor, *chokepoints],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout == "['went', 'went', 'went', 'refused', 'refused'] 3\nset()\n", done.stderr


def test_an_sdk_that_cannot_be_guarded_is_not_imported_anew(tmp_path, ledger_url):
    """A version that keybrake does not know is refused at every import, the second one too."""
    (tmp_path / "stripe").mkdir()
    (tmp_path / "stripe" / "__init__.py").write_text("VERSION = '99.0.0'\n")
    program = """
import sys, keybrake
keybrake.install()
for _ in range(3):
    try:
        import stripe
    except keybrake.UnsupportedSDK:
        print("refused", "stripe" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout == "refused False\n" * 3, done.stderr
