"""Price changes of an invoice by its new amount, if Stripe will collect it automatically."""

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

# Marker in ``Call.gathered``: the call makes a counted invoice or a pending item dearer, but its
# answer does not show the new amount. The reservation becomes the value of the position.
GROWN = "grown"
# What is gathered where a call changes a draft that waits, and that the ledger does not know.
TOUCHED = "touched"

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


# Settings that decide whether Stripe collects an invoice, but not its amount.
_COLLECTING = frozenset({"auto_advance", "automatically_finalizes_at", "collection_method"})


# The statuses in which Stripe no longer collects an invoice.
_OVER = ("paid", "void", "uncollectible", "deleted")


class _Lines(NamedTuple):
    """The change and the invoice that was looked up, while the invoice's lines are looked up."""

    change: Change
    invoice: Params


class _Voided(NamedTuple):
    """A credit note to void, while its invoice is looked up. The void adds *minor* to the invoice."""

    minor: int


class _NotRaised(NamedTuple):
    """A priced call that does not raise its invoice, while the ledger is asked for the invoice."""

    call: Call


def may_be_set(value: object) -> bool:
    """Return whether a flag may be read as set: every value that is not plainly unset."""
    return value not in (None, False, "false", "")


def update(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price new settings: an invoice counts with its full amount once Stripe will collect it."""
    named = {name for name, value in params.items() if value is not None} - _HARMLESS
    if not named:
        return call._replace(effect=Effect.FREE, may_raise=())
    del rule, money
    return ask_invoice(call, Change(ids[0], fields={name: params[name] for name in named}))


def add_lines(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price new lines, which are added to the amount of the invoice."""
    del rule, money
    return ask_invoice(call, Change(ids[0], added=tuple(_lines_of(params))))


def update_lines(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """Price new amounts of existing lines."""
    del rule, money
    lines = _lines_of(params)
    if not all(isinstance(line, Mapping) and id_of(line.get("id")) for line in lines):
        return unknown(call, "lines: a line names no id; name the id of each line to change")
    return ask_invoice(call, Change(ids[0], edited=tuple((str(ln["id"]), ln) for ln in lines)))


def update_line(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a new amount of one line."""
    del rule, money
    return ask_invoice(call, Change(ids[0], edited=((ids[1], params),)))


def remove_lines(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """Price the removal of lines; removing a credit makes the invoice dearer."""
    del rule, money
    lines = _lines_of(params)
    if not all(isinstance(line, Mapping) and id_of(line.get("id")) for line in lines):
        return unknown(call, "lines: a line names no id; name the id of each line to remove")
    for behavior in (line.get("behavior") for line in lines):
        if behavior != "delete":
            words = (
                f"behavior={shown(behavior)}: an item that is taken off an invoice is collected "
                f"with the next one; use behavior='delete', and create the item again"
            )
            return unknown(call, words)
    return ask_invoice(call, Change(ids[0], removed=tuple(str(line["id"]) for line in lines)))


def _lines_of(params: Params) -> list[Any]:
    return lines_at(params, (("lines",),))


def only_words(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Refuse all but descriptions and metadata, because the request names no invoice to price."""
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
    """Look the invoice up at Stripe: it may have changed elsewhere since the ledger counted it."""
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
    """Price the invoice with the change, one look-up at a time."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position):
        return _on_counted(call, rule, state, found, money)
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
    """Price the void of a credit note, which raises the amount of its invoice again."""
    del params, money
    lookup = Lookup(path=rule.asks[0].path.format(ids[0]))
    return call._replace(value_micros=None, lookup=lookup)


def note_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price the invoice without the credit note, if Stripe will still collect it."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position) or isinstance(state, _NotRaised | Bill):
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
        # Only a further call can have the invoice paid, and that call is priced by the amount at
        # that time. So this one depends only on nothing making the invoice advance meanwhile.
        call = call._replace(priced_by=(side_of(call, change.invoice, "advance"),))
        if invoice.get("status") in _OVER:
            return call._replace(gathered=(), position=None)  # its position stays as it is
        return _touched(call, invoice, money)
    if unread_lines(change, invoice):
        path = f"/v1/invoices/{change.invoice}/lines"
        lookup = Lookup(path=path, params={"limit": _MOST_LINES})
        return call._replace(lookup=lookup, gathered=(_Lines(change, invoice),))
    return _priced(call, change, invoice, money)


def _touched(call: Call, invoice: Params, money: Money) -> Call:
    """Have the ledger know the draft: a later call may finalize it, and its total be below zero."""
    currency = currency_code(invoice.get("currency"))
    rate = None if currency is None else money.rate(currency)
    if invoice.get("status") == "draft" and rate is not None:
        call = call._replace(currency=currency, usd_per_unit=rate, gathered=(TOUCHED,))
    else:
        call = call._replace(gathered=())
    return call._replace(lookup=Lookup(known_as=call.position))


def _settings(fields: Params) -> Params:
    """Return the settings that decide about collection, with the values that the call gives."""
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
    """Return the priced call; if it raises nothing, ask the ledger whether it counts the invoice."""
    if call.lookup is not None or call.refusal or call.value_micros is None:
        return call
    assert call.usd_per_unit is not None
    least = micros(read.least, str(call.currency), call.usd_per_unit)
    if read.whole or call.value_micros > least:
        return call._replace(gathered=(GROWN,))
    bare = call._replace(value_micros=None, currency=None, usd_per_unit=None)
    return bare._replace(gathered=(_NotRaised(call),), lookup=Lookup(known_as=call.position))


def _on_counted(call: Call, rule: Rule, state: object, found: Position, money: Money) -> Call:
    """Price a call on an invoice that the ledger counts, at no less than its present amount."""
    call = known(call._replace(gathered=()), rule, found, money)
    if not isinstance(state, _NotRaised):
        return call
    now = state.call.value_micros or 0
    return call._replace(value_micros=max(now, call.value_micros or 0), gathered=(GROWN,))
