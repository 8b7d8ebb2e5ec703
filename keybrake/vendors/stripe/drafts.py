"""Changes of an invoice: what it comes to with them, where Stripe will collect it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.bills import ask_on, bill_found
from keybrake.vendors.stripe.edits import Cannot, Change, edited_bill, unread_lines
from keybrake.vendors.stripe.lines import Bill, lines_at
from keybrake.vendors.stripe.money import currency_code, micros
from keybrake.vendors.stripe.objects import Found, known
from keybrake.vendors.stripe.readers import draft_amount, is_automatic, is_left_to_customer
from keybrake.vendors.stripe.stakes import side_of, with_stakes
from keybrake.vendors.stripe.steps import id_of, is_id, key_of, no_id, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import absorbing, items_on

Params = Mapping[str, Any]

# What is gathered where a call makes a counted invoice, or an item that waits, dearer: its answer
# does not show what that comes to.
GROWN = "grown"

_MOST_LINES = 100

# Settings that change no amount.
_HARMLESS = frozenset(
    {
        *("metadata", "expand", "description", "footer", "custom_fields", "days_until_due"),
        *("default_payment_method", "default_source", "due_date", "effective_at", "number"),
        *("payment_settings", "rendering", "statement_descriptor", "transfer_data"),
        *("application_fee_amount", "invoice_metadata"),
    }
)


# What decides whether an invoice is collected, and not at which amount.
_COLLECTING = frozenset({"auto_advance", "automatically_finalizes_at", "collection_method"})


# What is over is not collected any more.
_OVER = ("paid", "void", "uncollectible", "deleted")


class _Lines(NamedTuple):
    """The invoice as it was looked up, while its lines are."""

    change: Change
    invoice: Params


class _Voided(NamedTuple):
    """A credit note that goes, while its invoice is looked up: that comes to *minor* more then."""

    minor: int


class _Still(NamedTuple):
    """An invoice that the call leaves as it is; it matters only if the ledger counts it."""

    call: Call


def may_be_set(value: object) -> bool:
    """Return whether a flag may be read as set: whatever is not plainly unset."""
    return value not in (None, False, "false", "")


def update(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Settings of an invoice: it counts once it advances by itself, at what it comes to then."""
    named = {name for name, value in params.items() if value is not None} - _HARMLESS
    if not named:
        return call._replace(effect=Effect.FREE, may_raise=())
    del rule, money
    return ask_invoice(call, Change(ids[0], fields={name: params[name] for name in named}))


def add_lines(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """New lines, on top of what the invoice comes to."""
    del rule, money
    return ask_invoice(call, Change(ids[0], added=tuple(_lines_of(params))))


def update_lines(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """Lines that exist, each at another amount."""
    del rule, money
    lines = _lines_of(params)
    if not all(isinstance(line, Mapping) and id_of(line.get("id")) for line in lines):
        return unknown(call, "lines: a line names no id; name the id of each line to change")
    return ask_invoice(call, Change(ids[0], edited=tuple((str(ln["id"]), ln) for ln in lines)))


def update_line(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """One line at another amount."""
    del rule, money
    return ask_invoice(call, Change(ids[0], edited=((ids[1], params),)))


def remove_lines(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """Lines that go; an invoice grows by a credit that goes."""
    del rule, money
    lines = _lines_of(params)
    if not all(isinstance(line, Mapping) and id_of(line.get("id")) for line in lines):
        return unknown(call, "lines: a line names no id; name the id of each line to remove")
    for behavior in (line.get("behavior") for line in lines):
        if behavior != "delete":
            words = (
                f"behavior={shown(behavior)}: an item that is taken off an invoice waits for the "
                f"next one and is collected with it; use behavior='delete', and make the item again"
            )
            return unknown(call, words)
    return ask_invoice(call, Change(ids[0], removed=tuple(str(line["id"]) for line in lines)))


def _lines_of(params: Params) -> list[Any]:
    return lines_at(params, (("lines",),))


def only_words(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """A change that names no object it could be priced by: words and metadata alone are free."""
    del rule, ids, money
    for name, value in params.items():
        if name not in ("metadata", "description", "expand"):
            words = (
                f"{name}: the call does not say which invoice it changes; use invoices.lines.update"
            )
            del value
            return unknown(call, words)
    return call._replace(effect=Effect.FREE)


def ask_invoice(call: Call, change: Change) -> Call:
    """Ask what the invoice comes to now; no word of the ledger is enough for that."""
    if not is_id(change.invoice):
        return no_id(call, "invoice", change.invoice)
    key = key_of(call, change.invoice)
    lookup = Lookup(path=f"/v1/invoices/{change.invoice}")
    if change.fields.keys() and change.fields.keys() <= _COLLECTING:
        call = call._replace(may_raise=())  # no amount changes
    else:
        call = with_stakes(call, may_raise=(key,))
    if _settings(change.fields):
        call = with_stakes(call, may_raise=(side_of(call, change.invoice, "advance"),))
    return call._replace(value_micros=None, position=key, lookup=lookup, gathered=(change,))


def changed_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price the invoice with the change, look-up by look-up."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position):
        return _still(call, rule, state, found, money)
    if isinstance(state, Change):
        return _on_invoice(call, state, found, money)
    if isinstance(state, _Lines):
        lines = found.get("data")
        if not isinstance(lines, list) or found.get("has_more") is not False:
            return unknown(call, "the lines of the invoice could not all be looked up")
        return _priced(call, state.change, {**state.invoice, "lines": found}, money)
    if isinstance(state, Bill):
        return finished(bill_found(call, rule, found, money), state)
    return unknown(call, "the invoice could not be looked up")


def void_note(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """A credit note that goes: the invoice it was for comes to more again."""
    del params, money
    lookup = Lookup(path=rule.asks[0].path.format(ids[0]))
    return call._replace(value_micros=None, lookup=lookup)


def note_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price the invoice without the credit note, where it is still to be collected."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position) or isinstance(state, _Still | Bill):
        return changed_found(call, rule, found, money)
    if not isinstance(state, _Voided):
        invoice, minor = id_of(found.get("invoice")), found.get("total")
        if found.get("object") != "credit_note" or invoice is None or type(minor) is not int:
            return unknown(call, "the credit note could not be looked up")
        return ask_invoice(call, Change(invoice))._replace(gathered=(_Voided(minor),))
    amount, currency = draft_amount(found), currency_code(found.get("currency"))
    if found.get("object") != "invoice" or amount is None or currency is None:
        return unknown(call, "the invoice of the credit note could not be looked up")
    if not collects_itself(found):
        return call._replace(gathered=(), lookup=Lookup(known_as=call.position))
    more = Fraction(amount + state.minor)
    read = Bill(currency, more, least=amount, wanted=True)
    return finished(ask_on(call, read, money), read)


def _on_invoice(call: Call, change: Change, invoice: Params, money: Money) -> Call:
    if invoice.get("object") != "invoice":
        return unknown(call, f"the invoice {change.invoice} could not be looked up")
    if not collects_itself({**invoice, **_settings(change.fields)}):
        # It waits for a call that has it paid, and that one is priced by what it comes to then.
        # All that this call depends on is that nothing makes it advance in the meantime.
        call = call._replace(priced_by=(side_of(call, change.invoice, "advance"),))
        if invoice.get("status") in _OVER:
            return call._replace(gathered=(), position=None)  # as it was counted it stays
        return call._replace(gathered=(), lookup=Lookup(known_as=call.position))
    if unread_lines(change, invoice):
        path = f"/v1/invoices/{change.invoice}/lines"
        lookup = Lookup(path=path, params={"limit": _MOST_LINES})
        return call._replace(lookup=lookup, gathered=(_Lines(change, invoice),))
    return _priced(call, change, invoice, money)


def _settings(fields: Params) -> Params:
    """Return what the call makes of the settings that decide whether an invoice is collected."""
    given = {name: fields[name] for name in ("collection_method",) if name in fields}
    if "auto_advance" in fields:
        given["auto_advance"] = may_be_set(fields["auto_advance"])
    if may_be_set(fields.get("automatically_finalizes_at")):
        given["auto_advance"] = True
    return given


def collects_itself(invoice: Params) -> bool:
    """Return whether Stripe will collect an invoice without a further call."""
    if invoice.get("status") in _OVER:
        return False
    if invoice.get("status") == "open":
        return not is_left_to_customer(invoice)
    return is_automatic(invoice)


def _priced(call: Call, change: Change, invoice: Params, money: Money) -> Call:
    amount, currency = draft_amount(invoice), currency_code(invoice.get("currency"))
    if amount is None or amount < 0 or currency is None:
        return unknown(call, f"the invoice {change.invoice} does not say its amount")
    try:
        read = edited_bill(change, invoice, amount, currency)
    except Cannot as cannot:
        return unknown(call, str(cannot))
    call = absorbing(call, items_on(invoice))
    given, customer = _settings(change.fields), id_of(invoice.get("customer"))
    whole = bool(given) and given.get("auto_advance") is not False
    if whole and customer is not None:
        call = with_stakes(call, may_raise=(side_of(call, customer, "collected"),))
    read = read._replace(currency=currency, least=amount, whole=whole, wanted=True)
    return finished(ask_on(call, read, money), read)


def finished(call: Call, read: Bill) -> Call:
    """Return the priced call; one that raises nothing matters only if the ledger counts it."""
    if call.lookup is not None or call.refusal or call.value_micros is None:
        return call
    assert call.usd_per_unit is not None
    least = micros(read.least, str(call.currency), call.usd_per_unit)
    if read.whole or call.value_micros > least:
        return call._replace(gathered=(GROWN,))
    bare = call._replace(value_micros=None, currency=None, usd_per_unit=None)
    return bare._replace(gathered=(_Still(call),), lookup=Lookup(known_as=call.position))


def _still(call: Call, rule: Rule, state: object, found: Position, money: Money) -> Call:
    """Return a call on an invoice that the ledger counts, at no less than it comes to now."""
    call = known(call._replace(gathered=()), rule, found, money)
    if not isinstance(state, _Still):
        return call
    now = state.call.value_micros or 0
    return call._replace(value_micros=max(now, call.value_micros or 0), gathered=(GROWN,))
