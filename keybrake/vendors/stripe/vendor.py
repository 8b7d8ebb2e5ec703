"""The Stripe vendor: find the endpoint of a call and apply the rule that its table names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Outcome, Position, Reply, Request
from keybrake.model.shown import shown
from keybrake.vendors.paths import EndpointTable, oddity, path_of
from keybrake.vendors.stripe import outcomes
from keybrake.vendors.stripe.kinds import KINDS
from keybrake.vendors.stripe.stakes import may_raise, priced_by, with_credit
from keybrake.vendors.stripe.table import FILE, read_raises, read_rules


class Stripe:
    """See ``keybrake.vendors.Vendor``. ``endpoints.csv`` says how each endpoint is counted."""

    name = "stripe"

    def __init__(self) -> None:
        self._table = EndpointTable.read("keybrake.vendors.stripe", FILE)
        self._rules = read_rules()
        self._raises = read_raises()
        self._roots = _roots(self._rules.values())

    def endpoints(self) -> frozenset[str]:
        """See ``Vendor.endpoints``."""
        return frozenset(row.endpoint for row in self._table.rows)

    def has_path(self, method: str, pattern: str) -> bool:
        """See ``Vendor.has_path``."""
        return self._table.could_be(method, pattern)

    def describe(self, request: Request, money: Money) -> Call:
        """See ``Vendor.describe``."""
        path = path_of(request.url)
        odd = oddity(path)
        row, ids = (None, ()) if odd else self._table.find(request.method, path)
        rule = self._rules.get(row.endpoint) if row else None
        call = Call(
            vendor=self.name,
            endpoint=row.endpoint if row else f"stripe.unlisted.{request.method.lower()}",
            method=request.method,
            path=path if odd is None else ascii(path)[1:200],
            effect=row.effect if row else _unlisted(request.method),
            account=request.account,
            owner=request.owner,
            idempotency_key=request.idempotency_key,
            refusal=request.refusal,
            meter=rule.meter if rule else None,
        )
        if odd and not call.refusal:
            words = f"the path {path!a:.100} is not in canonical form: {odd}"
            return call._replace(refusal=("path_not_canonical", words))
        if row and row.endpoint in self._raises:
            raises = self._raises[row.endpoint]
            call = call._replace(may_raise=may_raise(call, raises, request.params, ids))
        if call.refusal or rule is None:
            return call
        if call.effect is Effect.MONEY and (refusal := self._ambiguous(request.params)):
            return call._replace(refusal=refusal)
        call = KINDS[rule.kind].describe(call, rule, request.params, ids, money)
        # A refused call makes no look-up, so an odd id never becomes part of a path.
        return call._replace(lookup=None) if call.refusal and call.lookup else call

    def _ambiguous(self, params: object) -> tuple[str, str] | None:
        """Return the refusal of an amount that could be read in two ways; None: it cannot."""
        if not isinstance(params, Mapping):
            return "invalid_amount", f"the parameters {shown(params)} have no names"
        for name, value in params.items():
            root = _root_of(name)
            bracketed = root != name or (root in self._roots and _bracketed(value))
            if root is None or (bracketed and root in self._roots):
                return "invalid_amount", f"the parameter {shown(name)} makes the amount ambiguous"
        return None

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """See ``Vendor.complete``."""
        rule = self._rules.get(call.endpoint)
        if rule is None:
            return call
        if not isinstance(found, Position):
            # Before the rule runs: a rule that does not depend on the object drops the key again.
            call = priced_by(call, found)
            if rule.kind in _PREVIEWED:
                call = with_credit(call, found)
        return KINDS[rule.kind].complete(call, rule, found, money)

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``Vendor.outcome``."""
        return outcomes.outcome(call, self._rules.get(call.endpoint), reply, money)


# The kinds that may be priced by Stripe's preview of an invoice.
_PREVIEWED = ("bill", "preview")

# Finds the plain name in ``amount[]``, ``amount]`` and ``[amount``. A server that follows Rack's
# rules for nested queries reads all of them as ``amount``, but the rules here would miss them.
_ROOT = re.compile(r"[\[\]]*([^\[\]]*)")


def _root_of(name: object) -> str | None:
    """Return a parameter's name up to its first bracket; None: it is not a plain str."""
    # A subclass of str may compare equal to one text and be sent as another.
    found = _ROOT.match(name) if type(name) is str else None
    return found[1] if found else None


def _bracketed(value: object) -> bool:
    """Return whether a nested name could be read in two ways; metadata may have any names."""
    if isinstance(value, Mapping):
        return any(
            _root_of(name) != name or (name != "metadata" and _bracketed(inner))
            for name, inner in value.items()
            if type(name) is not int
        )
    return isinstance(value, list | tuple) and any(map(_bracketed, value))


def _unlisted(method: str) -> Effect:
    return Effect.READ if method == "GET" else Effect.UNCLASSIFIED


# Parameters that the code of the rules reads, in addition to those that the table names.
_READ_BY_CODE = (
    *("refunds", "lines", "shipping_cost", "events", "metric_tons", "auto_advance", "phases"),
    *("paid_out_of_band", "automatic_tax", "default_tax_rates", "price_data", "price", "plan"),
    *("quantity", "quantity_decimal", "unit_amount_decimal", "pricing", "from_invoice"),
    *("proration_behavior", "proration_date", "trial_end", "billing_cycle_anchor", "customer"),
    *("subscription", "restrictions", "default_settings", "invoice_now", "from_subscription"),
    *("final_capture", "backdate_start_date", "billing_schedules", "start_date", "items"),
    *("invoicing_behavior", "add_invoice_items", "cancel_at", "cancel_at_period_end"),
    *("invoice", "amount", "balance", "source", "address", "shipping", "tax", "tax_exempt"),
    *("discounts", "discountable", "tax_rates", "tax_amounts", "automatically_finalizes_at"),
    *("collection_method", "bill_for", "coupon", "promotion_code", "behavior", "line_items"),
    *("currency_options", "tax_behavior", "tax_code", "tax_details", "fixed_amount", "expires_at"),
)


def _roots(rules: Any) -> frozenset[str]:
    """Return the names of all parameters that are read to price a call."""
    named = [
        name
        for rule in rules
        for name in (
            *(path[0] for path in (*rule.amount, rule.currency) if path),
            *(ask.field for ask in rule.asks if ask.field),
        )
    ]
    return frozenset((*named, *_READ_BY_CODE))
