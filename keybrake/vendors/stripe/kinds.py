"""Map each rule of the table to the code that counts such calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call
from keybrake.vendors.stripe import (
    bills,
    customers,
    drafts,
    invoices,
    items,
    objects,
    previews,
    quotes,
    takes,
    usage,
)
from keybrake.vendors.stripe import exposed as exposing
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.worth import Worth, worth

Describe = Callable[[Call, Rule, Mapping[str, Any], tuple[str, ...], Money], Call]
Complete = Callable[[Call, Rule, Found, Money], Call]
Read = Callable[[Call, Mapping[str, Any]], Worth | None]


def _nothing_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Return *call* unchanged, for kinds without a look-up."""
    del rule, found, money
    return call


def _read(call: Call, body: Mapping[str, Any]) -> Worth | None:
    del call
    return worth(body)


class Kind(NamedTuple):
    """
    The three functions that count one kind of call.

    Attributes:
        describe: Price the request alone, or return the look-up that it needs.
        complete: Go on with the result of a look-up.
        read: Return the worth of the answered object to this call.
    """

    describe: Describe
    complete: Complete = _nothing_found
    read: Read = _read


KINDS: Mapping[str, Kind] = {
    "new": Kind(objects.new, objects.new_found),
    "total": Kind(objects.total, objects.total_found),
    "new_total": Kind(objects.new_total, objects.total_found),
    "capture": Kind(objects.capture, objects.capture_found),
    "at_least": Kind(objects.total, objects.at_least_found),
    "whole": Kind(objects.whole, objects.whole_found),
    "quote_accept": Kind(objects.whole, quotes.accept_found),
    "follow": Kind(objects.follow, objects.known),
    "send": Kind(invoices.send, invoices.send_found, invoices.sent),
    "observe": Kind(objects.observe, objects.known),
    "part": Kind(takes.part, takes.part_found),
    "refund": Kind(takes.refund, takes.refund_found),
    "note_void": Kind(drafts.void_note, drafts.note_found),
    "credit_note": Kind(takes.credit_note, takes.part_found),
    "credit": Kind(customers.credit),
    "balance": Kind(customers.balance, customers.balance_found),
    "customer": Kind(customers.update, customers.update_found),
    "no_discount": Kind(exposing.without_discount, exposing.exposed_found),
    "taxes": Kind(exposing.other_taxes, exposing.exposed_found),
    "fixed": Kind(exposing.fixed),
    "standing": Kind(exposing.standing),
    "climate": Kind(usage.climate, usage.climate_found),
    "bill": Kind(bills.bill, bills.bill_found, bills.first_invoice),
    "pause": Kind(previews.pause),
    "preview": Kind(previews.preview, previews.preview_found),
    "invoice_create": Kind(invoices.create, invoices.create_found),
    "invoice_update": Kind(drafts.update, drafts.changed_found),
    "invoice_add": Kind(drafts.add_lines, drafts.changed_found),
    "invoice_edit": Kind(drafts.update_lines, drafts.changed_found),
    "invoice_edit_one": Kind(drafts.update_line, drafts.changed_found),
    "invoice_remove": Kind(drafts.remove_lines, drafts.changed_found),
    "only_words": Kind(drafts.only_words),
    "item_create": Kind(items.create, items.create_found),
    "item_update": Kind(items.update, items.item_found),
    "item_delete": Kind(items.delete, items.item_found),
    "invoice_finalize": Kind(invoices.finalize, invoices.finalize_found),
    "invoice_pay": Kind(invoices.pay, invoices.pay_found, invoices.paid),
    "contingent": Kind(bills.contingent, bills.contingent_found),
    "fee": Kind(usage.fee),
    "priced_fee": Kind(usage.priced_fee),
    "meter_event": Kind(usage.meter_event),
}
