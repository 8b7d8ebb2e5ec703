"""Are Resend calls guarded whatever was imported first, and unsupported SDKs refused at the door?"""

import os
import subprocess
import sys
import textwrap

import pytest
import resend

import keybrake
from keybrake import sdk

_SETS_UP = """
    resend.api_key, resend.api_url = "re_x", URL
    MAIL = {"from": "a@x.y", "to": "b@x.y", "subject": "Hi", "text": "x"}
"""
_AFTER = "import keybrake\nkeybrake.install()\nimport resend\n" + textwrap.dedent(_SETS_UP)
_BEFORE = (
    "import resend\n"
    + textwrap.dedent(_SETS_UP)
    + "SEND, PERFORM = resend.Emails.send, resend.request.Request('/emails', MAIL, 'post')\nimport keybrake\n"
)
_THEN = """
    import asyncio
    with keybrake.run("agent", cap="0.0018") as run:
        import resend
        resend.Emails.send(MAIL)
        asyncio.run(resend.Emails.send_async(MAIL))
        for more in (
            lambda: resend.Emails.send(MAIL),
            lambda: asyncio.run(resend.Emails.send_async(MAIL)),
            lambda: resend.request.Request("/emails", MAIL, "post").perform(),
        ):
            try:
                more()
            except keybrake.CapExceeded as refusal:
                assert isinstance(refusal, resend.exceptions.ResendError)
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


@pytest.mark.parametrize("first", [_AFTER, _BEFORE])
def test_hooks_before_and_after_the_import(fake_resend, ledger_url, tmp_path, first):
    """Import order does not matter."""
    script = f"URL = {fake_resend.url!r}\n" + first + textwrap.dedent(_THEN)
    ended = _python(script, tmp_path)

    assert (ended.stdout, ended.stderr) == ("0.0018 2 3\n", "")
    assert fake_resend.journal.total("email") == 2


def test_importing_keybrake_loads_no_resend(tmp_path):
    """Importing keybrake, and opening a run, loads no SDK and no HTTP client."""
    script = """
        import sys, keybrake
        keybrake.install()
        print(sorted({"resend", "requests", "httpx"} & set(sys.modules)))
    """
    assert _python(script, tmp_path).stdout == "[]\n"


_REQUEST = """
import resend
class Request:
    def __init__(self, {path}, params, verb): ...
    def {perform}(self): return self.{make}(url="")
    def {make}(self, url): return self.__{headers}()
    def __{headers}(self): return {{}}
"""
_FINE = {"path": "path", "perform": "perform", "make": "make_request", "headers": "get_headers"}


@pytest.fixture
def stub(tmp_path):
    """Return a maker of a resend package with a version and a chokepoint of one's choice."""

    def make(version="2.60.0", **names):
        folder = tmp_path / "stub" / "resend"
        folder.mkdir(parents=True)
        version_of = f"def get_version(): return {version!r}\n" if version is not None else ""
        (folder / "__init__.py").write_text(version_of)
        (folder / "request.py").write_text(_REQUEST.format(**_FINE | names))
        return str(tmp_path / "stub")

    return make


_UNSUPPORTED = [
    {"version": "1.2.0"},
    {"version": "3.0.0"},
    {"version": "not a version"},
    {"version": None},
    {"path": "url"},
    {"perform": "go"},
    {"make": "request"},
    {"headers": "headers"},
]
_TRIES = """
    import keybrake
    if not FIRST:
        keybrake.install()
    for _ in range(3):
        try:
            import resend, resend.request
            if FIRST:
                keybrake.install()
        except keybrake.UnsupportedSDK as error:
            print("refused:", error)
        else:
            print("went through")
"""


@pytest.mark.parametrize(
    "given", _UNSUPPORTED, ids=lambda given: "-".join(map(str, *given.items()))
)
@pytest.mark.parametrize("first", ["import first", "install first"])
def test_an_unsupported_resend_is_refused_every_time(stub, ledger_url, tmp_path, given, first):
    """An SDK that cannot be guarded is refused at install or import, and at each later try."""
    script = f"FIRST = {first == 'import first'}\n" + textwrap.dedent(_TRIES)
    ended = _python(script, tmp_path, first_on_path=stub(**given))

    told = ended.stdout.splitlines()
    assert ended.stderr == ""
    assert len(told) == 3
    assert all(line.startswith("refused:") and "resend" in line for line in told), told


def test_a_later_resend_goes_through(stub, ledger_url, tmp_path):
    """A version that looks as it should is guarded, whatever its minor number."""
    script = "FIRST = False\n" + textwrap.dedent(_TRIES)
    ended = _python(script, tmp_path, first_on_path=stub())

    assert ended.stdout.splitlines() == ["went through"] * 3


def test_hooks_in_place(ledger_url):
    """Every hook is in after install(), and out after uninstall()."""
    assert resend.request
    keybrake.install()
    states = {name: state for name, state in sdk.status() if name.startswith("resend.")}
    assert len(states) == 8
    assert set(states.values()) == {"in place"}

    keybrake.uninstall()
    states = {name: state for name, state in sdk.status() if name.startswith("resend.")}
    assert set(states.values()) == {"missing"}
