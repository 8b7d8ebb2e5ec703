"""Define how Stripe's test cards behave when they are charged."""

from dataclasses import dataclass
from typing import Final

# Maps the name in a token to (code, decline code).
_DECLINES: Final = {
    "chargeDeclined": ("card_declined", "generic_decline"),
    "chargeCustomerFail": ("card_declined", "generic_decline"),
    "chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "chargeDeclinedLostCard": ("card_declined", "lost_card"),
    "chargeDeclinedStolenCard": ("card_declined", "stolen_card"),
    "chargeDeclinedFraudulent": ("card_declined", "fraudulent"),
    "chargeDeclinedExpiredCard": ("expired_card", "expired_card"),
    "chargeDeclinedIncorrectCvc": ("incorrect_cvc", "incorrect_cvc"),
    "chargeDeclinedProcessingError": ("processing_error", "processing_error"),
}
_BRANDS: Final = {
    "mastercard": ("mastercard", "4444"),
    "amex": ("amex", "8431"),
    "discover": ("discover", "9424"),
}
_PREFIXES: Final = ("pm_card_", "tok_", "visa_")


@dataclass(frozen=True, slots=True)
class Decline:
    """The reason why a card is declined."""

    code: str
    decline_code: str

    @property
    def message(self) -> str:
        """The error message for people."""
        return f"The card was declined ({self.decline_code})."


@dataclass(frozen=True, slots=True)
class Card:
    """A test card and its behaviour."""

    brand: str
    last4: str
    decline: Decline | None = None
    needs_action: bool = False
    refund_status: str = "succeeded"


def card_for(token: str) -> Card:
    """Return the card of a test token such as ``pm_card_amex``; unknown tokens are good Visas."""
    name = token
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    brand, last4 = _BRANDS.get(name, ("visa", "4242"))
    if name in _DECLINES:
        return Card(brand, "0002", Decline(*_DECLINES[name]))
    if name.startswith(("authenticationRequired", "threeDSecure2Required")):
        return Card(brand, "3184", needs_action=True)
    match name:
        case "pendingRefund":
            return Card(brand, "7726", refund_status="pending")
        case "refundFail":
            return Card(brand, "5126", refund_status="failed")
        case _:
            return Card(brand, last4)
