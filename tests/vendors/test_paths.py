"""Is a path that is judged fine the same path to everybody who reads it?"""

import httpx
import pytest
import requests
import yarl
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from keybrake.model.call import Effect
from keybrake.vendors.paths import MOST_CHARACTERS, EndpointTable, oddity
from tests._each import each

_PIECES = st.sampled_from(
    [
        *(
            "/",
            "//",
            ".",
            "..",
            "/./",
            "/../",
            "%",
            "%2e",
            "%2E",
            "%2f",
            "%5c",
            "%25",
            "%00",
            "%20",
        ),
        *("%c3%a9", "%C3%A9", "%7e", "%3b", "%41", ";", "#", "?", "@", ":", "\\", " ", "\t", "\n"),
        *(
            "v1",
            "charges",
            "a",
            "é",
            "\uff11",
            "~",
            "!",
            "$",
            "&",
            "'",
            "(",
            ")",
            "*",
            "+",
            ",",
            "=",
        ),
        *("\0", "\x7f", "\u202e", "\ud800", "|", "^", "`", "{", "}", "[", "]", '"', "<", ">"),
    ]
)
_PATHS = st.one_of(
    st.lists(_PIECES, max_size=8).map(lambda pieces: "/" + "".join(pieces)),
    st.text(max_size=20).map(lambda text: f"/v1/{text}"),
)


@given(_PATHS)
@example("/v1/customers/cus_1")
@example("/v1/a%20b")
@example("/v1/%C3%A9")
@example("/v1/%c3%a9")
@example("/v1/a:b@c")
def test_what_is_fine_survives_every_http_client(path):
    """A path judged fine leaves requests, httpx, urllib3 and yarl byte for byte as it came."""
    if oddity(path) is not None:
        return
    url = f"https://api.stripe.com{path}"

    assert requests.Request("GET", url).prepare().path_url == path
    assert httpx.URL(url).raw_path.decode() == path
    assert parse_url(url).path == path
    assert yarl.URL(url).raw_path == path


@given(st.text() | _PATHS)
def test_oddity_never_raises(path):
    """Any text at all gets an answer."""
    assert oddity(path) is None or isinstance(oddity(path), str)


@pytest.mark.parametrize(
    "path", ["/v1/charges", "/v1/charges/ch_1", "/v1/a-b_c.d~e", "/v2/core/events", "/v1/x=1,2"]
)
def test_plain_paths_are_fine(path):
    """The paths of the SDK itself are not odd."""
    assert oddity(path) is None


@each(
    "path",
    [
        *("", "v1/charges", "/", "//", "/v1/", "/v1//charges", "/.", "/..", "/v1/./x", "/v1/../x"),
        *(
            "/v1/%2e%2e/x",
            "/v1/%2f",
            "/v1/%5C",
            "/v1/%41",
            "/v1/%7E",
            "/v1/%00",
            "/v1/%1f",
            "/v1/%",
        ),
        *("/v1/%zz", "/v1/a;b", "/v1/a?b", "/v1/a#b", "/v1/a\\b", "/v1/a b", "/v1/é", "/v1/\x7f"),
        "/v1/" + "a" * MOST_CHARACTERS,
    ],
)
def test_odd_paths_are_odd(path):
    """Each way in which two parsers differ is named."""
    assert oddity(path)


def test_the_table_prefers_literals():
    """A word of the API's own goes before an id that would look the same."""
    table = EndpointTable.read("keybrake.vendors.stripe", "endpoints.csv")

    assert table.find("GET", "/v1/charges/search")[0].endpoint == "stripe.charges.search"
    assert table.find("GET", "/v1/charges/ch_1")[0].endpoint == "stripe.charges.retrieve"
    assert table.find("POST", "/v1/charges/ch_1/capture")[1] == ("ch_1",)
    assert table.find("POST", "/V1/charges") == (None, ())


def test_every_row_is_found_by_itself():
    """No row of the table hides another, and each has one effect."""
    table = EndpointTable.read("keybrake.vendors.stripe", "endpoints.csv")
    for row in table.rows:
        found, ids = table.find(row.method, row.path.replace("{}", "id_1"))
        assert found == row
        assert len(ids) == row.path.count("{}")
    assert len({(row.method, row.path) for row in table.rows}) == len(table.rows)
    assert {row.effect for row in table.rows if row.method == "GET"} == {Effect.READ}


@given(st.text() | _PATHS, st.sampled_from(["GET", "POST", "DELETE", "PUT", ""]))
@example("/v1/charges/", "GET")
@example("/", "POST")
@example("", "POST")
def test_finding_never_raises(path, method):
    """Any path has a row or none."""
    table = _TABLE
    row, _ = table.find(method, path)
    assert row is None or row.method == method


_TABLE = EndpointTable.read("keybrake.vendors.stripe", "endpoints.csv")
