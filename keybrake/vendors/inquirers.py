"""The inquirer of each vendor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keybrake.vendors import VENDORS
from keybrake.vendors.inquiry import Inquirer, Inquiry, Judge
from keybrake.vendors.resend.inquiry import ResendInquirer
from keybrake.vendors.stripe.inquiry import StripeInquirer
from keybrake.vendors.twilio.inquiry import TwilioInquirer

__all__ = ["Inquirer", "Inquiry", "inquirer_of"]

_KINDS: Mapping[str, Callable[[Judge], Inquirer]] = {
    "stripe": StripeInquirer,
    "twilio": TwilioInquirer,
    "resend": ResendInquirer,
}


def inquirer_of(vendor: str) -> Inquirer | None:
    """Return the inquirer of *vendor*; None: it has none."""
    kind = _KINDS.get(vendor)
    return None if kind is None else kind(VENDORS[vendor])
