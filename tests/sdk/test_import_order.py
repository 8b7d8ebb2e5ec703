"""Are calls guarded whatever was imported first, and unsupported SDKs refused at the door?"""

import os
import subprocess
import sys
import textwrap

import pytest

_AFTER = """
    import keybrake
    keybrake.install()
    import stripe
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": URL}, max_network_retries=0)
"""
_BEFORE = """
    import stripe
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": URL}, max_network_retries=0)
    client.v1.payment_intents.list()
    stripe.api_key, stripe.api_base = "sk_test_x", URL
    stripe.PaymentIntent.list()
    import keybrake
"""
_IN_THE_RUN = """
    import keybrake
"""
_THEN = """
    with keybrake.run("agent", cap=2) as run:
        import stripe
        stripe.api_key, stripe.api_base = "sk_test_x", URL
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": URL})
        client.v1.payment_intents.create({"amount": 100, "currency": "usd"})
        stripe.PaymentIntent.create(amount=100, currency="usd")
        for more in (
            lambda: client.v1.payment_intents.create({"amount": 100, "currency": "usd"}),
            lambda: stripe.PaymentIntent.create(amount=100, currency="usd"),
        ):
            try:
                more()
            except keybrake.CapExceeded as refusal:
                assert isinstance(refusal, stripe.PermissionError)
            else:
                raise SystemExit("not guarded")
    print(run.spent, run.calls, run.refused)
"""


def _python(script, tmp_path, first_on_path=None):
    path = [first_on_path, os.environ.get("PYTHONPATH")]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        check=False,
    )


@pytest.mark.parametrize("first", [_AFTER, _BEFORE, _IN_THE_RUN])
def test_hooks_before_and_after_the_import(fake, ledger_url, tmp_path, first):
    """Import order does not matter, nor whether clients were built before."""
    script = f"URL = {fake.url!r}\n" + textwrap.dedent(first) + textwrap.dedent(_THEN)
    ended = _python(script, tmp_path)

    assert (ended.stdout, ended.stderr) == ("2.00 2 2\n", "")
    assert fake.journal.total() == 200


def test_importing_keybrake_loads_no_sdk(tmp_path):
    """Importing keybrake loads no SDK, no wrapt and no HTTP client."""
    script = """
        import sys, keybrake
        heavy = {"stripe", "wrapt", "requests", "httpx", "aiohttp", "click", "sqlite_utils"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert _python(script, tmp_path).stdout == "[]\n"


_REQUESTOR = """
class _APIRequestor:
    def {name}(self, method, url, params=None, options=None, is_streaming=False, *, base_address, api_mode, usage=None):
        return b"{{}}", 200, {{}}

    def _replace_options(self, options): ...
"""
_HTTP_CLIENT = """
class HTTPClient:
    def request_with_retries(self, method, url, headers, post_data=None, max_network_retries=None): ...
    def request_stream_with_retries(self, method, url, headers, post_data=None, max_network_retries=None): ...
    def _should_retry(self, response, api_connection_error, num_retries, max_network_retries): ...
"""


@pytest.fixture
def stub(tmp_path):
    """Return a maker of a stripe package with a version and a chokepoint of one's choice."""

    def make(version, *, chokepoint="request_raw", version_name="VERSION"):
        folder = tmp_path / "stub" / "stripe"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            f"{version_name} = {version!r}\nclass PermissionError(Exception): ...\n"
        )
        (folder / "_api_requestor.py").write_text(_REQUESTOR.format(name=chokepoint))
        (folder / "_http_client.py").write_text(_HTTP_CLIENT)
        return str(tmp_path / "stub")

    return make


_UNSUPPORTED = [
    {"version": "7.14.0"},
    {"version": "17.0.0"},
    {"version": "17.0.0b1"},
    {"version": "not a version"},
    {"version": "16.1.0", "version_name": "NO_VERSION_AT_ALL"},
    {"version": "16.1.0", "chokepoint": "request_new"},
]

_TRIES = """
    import keybrake
    if not FIRST:
        keybrake.install()
    for _ in range(3):
        try:
            {imports}
            if FIRST:
                keybrake.install()
        except keybrake.UnsupportedSDK as error:
            print("refused:", error)
        else:
            print("went through")
"""


@pytest.mark.parametrize(
    "given", _UNSUPPORTED, ids=lambda given: "-".join(map(str, given.values()))
)
@pytest.mark.parametrize("first", ["import first", "install first"])
def test_an_unsupported_stripe_is_refused_every_time(stub, ledger_url, tmp_path, given, first):
    """An SDK that cannot be guarded is refused at install or import, and at each later try."""
    path = stub(**given)
    imports = "import stripe, stripe._api_requestor, stripe._http_client"
    script = f"FIRST = {first == 'import first'}\n" + textwrap.dedent(_TRIES).format(
        imports=imports
    )
    ended = _python(script, tmp_path, first_on_path=path)

    told = ended.stdout.splitlines()
    assert ended.stderr == ""
    assert len(told) == 3
    assert all(line.startswith("refused:") and "stripe" in line for line in told), told


def test_an_unsupported_stripe_stops_a_run(stub, ledger_url, tmp_path):
    """A run does not begin over an SDK that cannot be guarded, however often it is tried."""
    script = """
        import stripe, keybrake
        for _ in range(2):
            try:
                with keybrake.run("agent", cap=1):
                    print("went through")
            except keybrake.UnsupportedSDK as error:
                print("17.0.0" in str(error))
    """
    ended = _python(script, tmp_path, first_on_path=stub("17.0.0"))

    assert (ended.stdout, ended.stderr) == ("True\nTrue\n", "")


def test_a_supported_stub_goes_through(stub, ledger_url, tmp_path):
    """The stubs of these tests are refused for what is wrong with them alone."""
    script = (
        "import keybrake\nkeybrake.install()\nimport stripe, stripe._api_requestor\nprint('fine')"
    )
    ended = _python(script, tmp_path, first_on_path=stub("8.0.0"))

    assert (ended.stdout, ended.stderr) == ("fine\n", "")
