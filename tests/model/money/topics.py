"""What an agent can do about one object: calls that price it, raise it, and have it charged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.model.money.desk import Call, Desk

Act = Callable[[Desk, str], Iterator[Call]]


class Topic(NamedTuple):
    """An object, and what can be done about it."""

    name: str
    acts: tuple[Act, ...]


def scene(desk: Desk) -> Iterator[Call]:
    """Yield what exists before the run: two customers and what is open for them."""
    dice = desk.dice
    yield Call("coupons.create", params={"amount_off": int(desk.cap * 0.8)}, save="coupon")
    yield Call("tax_rates.create", params={"percentage": dice.choice((20, 100, 400))}, save="tax")
    for price, unit in (("cheap", desk.cents()), ("dear", desk.cap // 2)):
        monthly = {"unit_amount": unit, "currency": "usd", "recurring": {"interval": "month"}}
        yield Call("prices.create", params=monthly, save=price)
        once = {"unit_amount": unit, "currency": "usd"}
        yield Call("prices.create", params=once, save=f"{price}_once")
    for _ in range(2):
        yield from _customer(desk)
    for act in (_intent, _held, _charge, _payout_intent):
        yield from act(desk, "")
    desk.next_step()


def _customer(desk: Desk) -> Iterator[Call]:
    dice, given = desk.dice, {}
    if dice.random() < 0.4:
        given["coupon"] = "$coupon"
    if dice.random() < 0.4:
        given["balance"] = dice.choice((-1, 1)) * desk.cents()
    customer = desk.name("customer")
    yield Call("customers.create", params=given, save=customer)
    if dice.random() < 0.5:
        yield from _subscribe(desk, customer)
    yield from _draft(desk, customer)
    invoice = desk._made[-1][1]
    for place in (invoice, invoice, None):
        yield from _new_item(desk, customer, place)
    yield from _quote(desk, customer)


def _of(params: dict[str, Any], invoice: str | None) -> dict[str, Any]:
    return params if invoice is None else {**params, "invoice": f"${invoice}"}


def _new_item(desk: Desk, customer: str, invoice: str | None) -> Iterator[Call]:
    dice = desk.dice
    params = _of({"customer": f"${customer}", "currency": "usd"}, invoice)
    shape = dice.random()
    if shape < 0.5:
        params["amount"] = desk.cents()
    elif shape < 0.6:
        row = _price(desk, once=True)
        params |= {"pricing": {"price": row["price"]}, "quantity": row["quantity"]}
    elif shape < 0.85:
        params |= {"unit_amount_decimal": str(desk.cents()), "quantity": dice.randrange(1, 4)}
    else:
        params["amount"] = -desk.cents()
    item = desk.name("item" if invoice else "waiting", invoice or customer)
    yield Call("invoice_items.create", params=params, save=item)


def _draft(desk: Desk, customer: str) -> Iterator[Call]:
    params: dict[str, Any] = {"customer": f"${customer}"}
    params["auto_advance"] = desk.dice.random() < 0.6
    params["pending_invoice_items_behavior"] = desk.dice.choice(("include", "exclude"))
    if desk.dice.random() < 0.2:
        params["discounts"] = [{"coupon": "$coupon"}]
    yield Call("invoices.create", params=params, save=desk.name("invoice", customer))


def _price(desk: Desk, *, once: bool = False) -> dict[str, Any]:
    price = desk.dice.choice(("cheap", "cheap", "dear"))
    return {"price": f"${price}{'_once' if once else ''}", "quantity": desk.dice.randrange(1, 4)}


def _subscribe(desk: Desk, customer: str) -> Iterator[Call]:
    params = {"customer": f"${customer}", "items": [_price(desk)]}
    yield Call("subscriptions.create", params=params, save=desk.name("subscription", customer))


def _quote(desk: Desk, customer: str) -> Iterator[Call]:
    params = {"customer": f"${customer}", "line_items": [_price(desk, once=True)]}
    quote = desk.name("quote", customer)
    yield Call("quotes.create", params=params, save=quote)
    if desk.dice.random() < 0.4:
        yield Call("quotes.finalize_quote", (f"${quote}",))


def _intent(desk: Desk, _: str) -> Iterator[Call]:
    params = {"amount": desk.cents(), "currency": "usd", "confirm": desk.dice.random() < 0.7}
    yield Call("payment_intents.create", params=params, save=desk.name("intent"))


def _held(desk: Desk, _: str) -> Iterator[Call]:
    params = {"amount": desk.cents(), "currency": "usd", "confirm": True}
    params["capture_method"] = "manual"
    yield Call("payment_intents.create", params=params, save=desk.name("intent"))


def _charge(desk: Desk, _: str) -> Iterator[Call]:
    params = {"amount": desk.cents(), "currency": "usd", "source": "tok_visa"}
    if desk.dice.random() < 0.4:
        params["capture"] = False
    yield Call("charges.create", params=params, save=desk.name("charge"))


_V2 = "v2.money_management.payout_intents"


def _payout_intent(desk: Desk, _: str) -> Iterator[Call]:
    amount = {"value": desk.cents(), "currency": "usd"}
    params = {"amount": amount, "from": {"financial_account": "fa_1", "currency": "usd"}}
    yield Call(f"{_V2}.create", params=params, save=desk.name("payout"))


def _plain(name: str, **params: Any) -> Act:
    """Return an act that is one call on the object, always with the same parameters."""

    def act(desk: Desk, about: str) -> Iterator[Call]:
        del desk
        yield Call(name, (f"${about}",), params or None)

    return act


def _priced(name: str, field: str, **params: Any) -> Act:
    """Return an act that is one call on the object, with an amount."""

    def act(desk: Desk, about: str) -> Iterator[Call]:
        yield Call(name, (f"${about}",), {field: desk.cents(), **params})

    return act


def _shipping(desk: Desk, invoice: str) -> Iterator[Call]:
    fixed = {"amount": desk.cents(), "currency": "usd"}
    rate = {"display_name": "post", "type": "fixed_amount", "fixed_amount": fixed}
    yield Call("invoices.update", (f"${invoice}",), {"shipping_cost": {"shipping_rate_data": rate}})


def _item_on(desk: Desk, invoice: str) -> Iterator[Call]:
    yield from _new_item(desk, desk.owner[invoice], invoice)


def _change(desk: Desk) -> dict[str, Any]:
    if desk.dice.random() < 0.6:
        return {"amount": desk.cents()}
    return {"quantity": desk.dice.randrange(2, 30)}


def _change_item(desk: Desk, about: str) -> Iterator[Call]:
    if (item := desk.one("item", about)) is not None:
        yield Call("invoice_items.update", (f"${item}",), _change(desk))


def _delete_item(desk: Desk, about: str) -> Iterator[Call]:
    if (item := desk.one("item", about)) is not None:
        yield Call("invoice_items.delete", (f"${item}",))


def _tax_item(desk: Desk, about: str) -> Iterator[Call]:
    if (item := desk.one("item", about)) is not None:
        yield Call("invoice_items.update", (f"${item}",), {"tax_rates": ["$tax"]})


def _change_line(desk: Desk, invoice: str) -> Iterator[Call]:
    if (item := desk.one("item", invoice)) is not None:
        ids = (f"${invoice}", f"${item}.line")
        yield Call("invoices.line_items.update", ids, _change(desk))


def _change_lines(desk: Desk, invoice: str) -> Iterator[Call]:
    if (item := desk.one("item", invoice)) is not None:
        lines = [{"id": f"${item}.line", **_change(desk)}]
        yield Call("invoices.update_lines", (f"${invoice}",), {"lines": lines})


def _remove_lines(desk: Desk, invoice: str) -> Iterator[Call]:
    if (item := desk.one("item", invoice)) is not None:
        lines = [{"id": f"${item}.line", "behavior": desk.dice.choice(("delete", "unassign"))}]
        yield Call("invoices.remove_lines", (f"${invoice}",), {"lines": lines})


def _add_lines(desk: Desk, invoice: str) -> Iterator[Call]:
    waiting = desk.one("waiting", desk.owner[invoice])
    if waiting is not None and desk.dice.random() < 0.5:
        line: dict[str, Any] = {"invoice_item": f"${waiting}"}
    else:
        line = {"amount": desk.cents(), "description": "more"}
    yield Call("invoices.add_lines", (f"${invoice}",), {"lines": [line]})


def _credit_note(desk: Desk, invoice: str) -> Iterator[Call]:
    cents = desk.cents()
    params = {"invoice": f"${invoice}", "amount": cents}
    params[desk.dice.choice(("refund_amount", "credit_amount"))] = cents
    yield Call("credit_notes.create", params=params)


def _refund_invoice(desk: Desk, invoice: str) -> Iterator[Call]:
    params: dict[str, Any] = {"charge": f"${invoice}.charge"}
    if desk.dice.random() < 0.4:
        params["amount"] = desk.cents()
    yield Call("refunds.create", params=params)


def _owner(act: Act) -> Act:
    """Return an act about the customer of an object."""

    def of_owner(desk: Desk, about: str) -> Iterator[Call]:
        yield from act(desk, desk.owner[about])

    return of_owner


def _balance(desk: Desk, customer: str) -> Iterator[Call]:
    ids = (f"${customer}",)
    cents = desk.dice.choice((-1, 1, 1)) * desk.cents()
    if desk.dice.random() < 0.3:
        yield Call("customers.update", ids, {"balance": cents})
    else:
        params = {"amount": cents, "currency": "usd"}
        yield Call("customers.balance_transactions.create", ids, params)


def _new_waiting(desk: Desk, customer: str) -> Iterator[Call]:
    yield from _new_item(desk, customer, None)


def _change_waiting(desk: Desk, customer: str) -> Iterator[Call]:
    if (item := desk.one("waiting", customer)) is not None:
        yield Call("invoice_items.update", (f"${item}",), _change(desk))


def _delete_waiting(desk: Desk, customer: str) -> Iterator[Call]:
    if (item := desk.one("waiting", customer)) is not None:
        yield Call("invoice_items.delete", (f"${item}",))


def _change_subscription(desk: Desk, customer: str) -> Iterator[Call]:
    subscription, row = desk.one("subscription", customer), _price(desk)
    if subscription is None:
        return
    billed = {"proration_behavior": desk.dice.choice(("always_invoice", "create_prorations"))}
    match desk.dice.randrange(4):
        case 0:
            params = {"subscription": f"${subscription}", **row, **billed}
            yield Call("subscription_items.create", params=params)
        case 1:
            ids = (f"${subscription}.item",)
            yield Call("subscription_items.update", ids, {"quantity": 9, **billed})
        case 2:
            params = {"items": [row], **billed}
            yield Call("subscriptions.update", (f"${subscription}",), params)
        case _:
            yield Call("subscriptions.cancel", (f"${subscription}",), {"invoice_now": True})


def _change_quote(desk: Desk, quote: str) -> Iterator[Call]:
    yield Call("quotes.update", (f"${quote}",), {"line_items": [_price(desk, once=True)]})
    if desk.dice.random() < 0.5:
        yield Call("quotes.finalize_quote", (f"${quote}",))


def _tax_quote(desk: Desk, quote: str) -> Iterator[Call]:
    del desk
    yield Call("quotes.update", (f"${quote}",), {"default_tax_rates": ["$tax"]})


def _quote_for_months(desk: Desk, quote: str) -> Iterator[Call]:
    yield Call("quotes.update", (f"${quote}",), {"line_items": [_price(desk)]})


def _refund(desk: Desk, about: str) -> Iterator[Call]:
    params: dict[str, Any] = {"payment_intent": f"${about}"}
    if desk.dice.random() < 0.3:
        params = {"charge": f"${about}.charge"}
    if desk.dice.random() < 0.3:
        params["amount"] = desk.cents()
    yield Call("refunds.create", params=params)


def _refund_charge(desk: Desk, charge: str) -> Iterator[Call]:
    params: dict[str, Any] = {"charge": f"${charge}"}
    if desk.dice.random() < 0.3:
        params["amount"] = desk.cents()
    yield Call("refunds.create", params=params)


def _transfer_of(desk: Desk, charge: str) -> Iterator[Call]:
    params = {"source_transaction": f"${charge}", "currency": "usd", "destination": "acct_1"}
    yield Call("transfers.create", params=params, save=desk.name("transfer"))


def _transfer(desk: Desk, _: str) -> Iterator[Call]:
    params = {"amount": desk.cents(), "currency": "usd", "destination": "acct_1"}
    yield Call("transfers.create", params=params, save=desk.name("transfer"))


def _payout(desk: Desk, _: str) -> Iterator[Call]:
    yield Call("payouts.create", params={"amount": desk.cents(), "currency": "usd"})


def _change_payout(desk: Desk, payout: str) -> Iterator[Call]:
    amount = {"value": desk.cents(), "currency": "usd"}
    yield Call(f"{_V2}.update", (f"${payout}",), {"amount": amount})


_RAISE = (
    *(_item_on, _item_on, _change_item, _change_item, _tax_item, _delete_item, _change_line),
    *(_change_lines, _remove_lines, _add_lines, _shipping, _owner(_balance)),
    _plain("invoices.update", default_tax_rates=["$tax"]),
    _plain("invoices.update", discounts=""),
    _owner(_plain("customers.delete_discount")),
)
_COLLECT = (
    _plain("invoices.pay"),
    _plain("invoices.pay"),
    _plain("invoices.finalize_invoice"),
    _plain("invoices.finalize_invoice", auto_advance=True),
    _plain("invoices.update", auto_advance=True),
)
_ACTS: dict[str, tuple[Act, ...]] = {
    "invoice": (
        *_RAISE,
        *_COLLECT,
        *_COLLECT,
        *(_credit_note, _refund_invoice),
        *(_plain("invoices.void_invoice"), _plain("invoices.delete"), _plain("invoices.retrieve")),
    ),
    "customer": (
        *(_new_waiting, _new_waiting, _change_waiting, _delete_waiting, _draft, _draft, _draft),
        *(_balance, _subscribe, _change_subscription, _change_subscription, _quote),
        _plain("customers.delete_discount"),
    ),
    "quote": (
        *(_change_quote, _change_quote, _tax_quote, _quote_for_months),
        *(_plain("quotes.finalize_quote"), _plain("quotes.accept"), _plain("quotes.accept")),
        *(_owner(_new_waiting), _owner(_balance)),
    ),
    "intent": (
        *(_refund, _refund, _plain("payment_intents.capture"), _plain("payment_intents.confirm")),
        _priced("payment_intents.capture", "amount_to_capture"),
        _priced("payment_intents.increment_authorization", "amount"),
        _priced("payment_intents.increment_authorization", "amount"),
        _priced("payment_intents.update", "amount"),
        _plain("payment_intents.cancel"),
        *(_intent, _held),
    ),
    "charge": (
        *(_refund_charge, _refund_charge, _plain("charges.capture"), _transfer_of),
        *(_charge, _transfer, _payout),
        _priced("charges.capture", "amount"),
    ),
    "payout": (
        *(_change_payout, _change_payout, _plain(f"{_V2}.confirm"), _plain(f"{_V2}.confirm")),
        _payout_intent,
    ),
    "transfer": (_plain("transfers.reversals.create"), _transfer),
}
_OFTEN = {"invoice": 6, "customer": 4, "quote": 2, "intent": 3, "charge": 2, "payout": 1}


def about(desk: Desk) -> Topic:
    """Return an object to act on, and what can be done about it."""
    kinds = [kind for kind in _OFTEN if desk.known.get(kind)]
    kind = desk.dice.choices(kinds, [_OFTEN[kind] for kind in kinds])[0]
    return Topic(desk.dice.choice(desk.known[kind]), _ACTS[kind])
