"""Does the table of endpoints say of each call how it is counted, and is every line of it used?"""

import csv
from importlib import resources

import pytest

from keybrake.config.settings import Money
from keybrake.model.call import Effect, Meter, Request
from keybrake.vendors import VENDORS
from keybrake.vendors.stripe.kinds import KINDS
from keybrake.vendors.stripe.table import FILE, read_rules
from tests._each import each
from tests.vendors._stripe_cases import COUNTED

STRIPE = VENDORS["stripe"]
RULES = read_rules()
_TEXT = resources.files("keybrake.vendors.stripe").joinpath(FILE).read_text("utf-8")
ROWS = list(csv.DictReader(line for line in _TEXT.splitlines() if not line.startswith("#")))

# Counted only under some condition, or never by themselves; tested one by one elsewhere.
SOMETIMES = {
    "only_words",
    "pause",
    "fixed",
    "standing",
    "no_discount",
    "taxes",
    "fee",
    "priced_fee",
    "meter_event",
    "contingent",
    "follow",
    "send",
}


def _describe(row, **params):
    path = row["path"].replace("{}", "x_1")
    request = Request("stripe", row["method"], f"https://api.stripe.com{path}", params)
    return STRIPE.describe(request, Money())


def _rows(effect):
    return [pytest.param(row, id=row["endpoint"]) for row in ROWS if row["effect"] == effect]


def test_what_there_is():
    """Every row has an effect; none of the SDK's writes is left unclassified."""
    effects = [row["effect"] for row in ROWS]

    assert len(ROWS) == 659
    counts = {effect: effects.count(effect) for effect in set(effects)}
    assert counts == {"read": 292, "free": 244, "money": 115, "authority": 8}


def test_every_name_is_used_once():
    """An endpoint's name leads to one row, save where two paths are the same thing."""
    names = [(row["method"], row["path"]) for row in ROWS]

    assert len(set(names)) == len(names)


@each("row", _rows("money"))
def test_every_priced_row_has_a_rule_and_a_meter(row):
    """A call that moves money is counted by a rule that exists, under a meter."""
    rule = RULES[row["endpoint"]]

    assert rule.kind in KINDS
    assert isinstance(rule.meter, Meter)


@each("row", [*_rows("free"), *_rows("authority")])
def test_no_other_write_has_a_rule(row):
    """What moves no money, or cannot be priced, is not half counted."""
    assert row["endpoint"] not in RULES
    assert row["method"] != "GET"
    assert _describe(row, amount=5, currency="usd").effect is Effect(row["effect"])


@each("row", _rows("read"))
def test_every_read_is_free(row):
    """A read costs nothing, and asks nobody but the ledger."""
    call = _describe(row)

    assert (call.effect, call.value_micros, call.refusal) == (Effect.READ, 0, None)
    assert call.lookup is None or call.lookup.path is None


def test_every_kind_is_used():
    """There is no code for a rule that no endpoint has."""
    assert {rule.kind for rule in RULES.values()} == set(KINDS)


def test_every_priced_row_has_an_example():
    """Each endpoint that moves an amount by itself is tried through the real SDK."""
    by_themselves = {name for name, rule in RULES.items() if rule.kind not in SOMETIMES}
    by_themselves = {name for name in by_themselves if RULES[name].kind != "observe"}

    assert by_themselves == {f"stripe.{case.endpoint}" for case in COUNTED}


@each("case", COUNTED, ids=lambda case: case.endpoint)
def test_an_example_is_priced_or_asks(case):
    """A plausible request is worth something at once, or only after a look-up; never nothing."""
    method, path = case.call.split()
    request = Request("stripe", method, f"https://api.stripe.com{path}", case.params)
    call = STRIPE.describe(request, Money())

    assert call.endpoint == f"stripe.{case.endpoint}"
    assert (call.effect, call.refusal) == (Effect.MONEY, None)
    if case.looks:
        assert f"{call.lookup.method} {call.lookup.path}" == case.looks[0][0]
        assert call.value_micros is None
    else:
        assert call.value_micros == case.reserve


@each("row", _rows("money"))
@each("junk", [{}, {"amount": object(), "items": 5, "payload": [], "events": {}}])
def test_a_request_that_says_nothing_is_never_taken_for_nothing(row, junk):
    """A call that has to name its amount and does not is refused, or asks; its kind says which."""
    call = _describe(row, **junk)
    kind = RULES[row["endpoint"]].kind

    nothing = kind in SOMETIMES or kind in {"balance", "preview", "new_total"}
    nothing = nothing or kind in {"invoice_create", "invoice_update", "item_update", "customer"}
    assert nothing or call.refusal is not None or call.lookup is not None
