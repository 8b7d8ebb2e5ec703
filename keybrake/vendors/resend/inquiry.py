"""Ask Resend about a call of unknown outcome: repeat the request under its idempotency key."""

from __future__ import annotations

from collections.abc import Sequence

from keybrake.config.settings import Money
from keybrake.model.call import Estimated, InDoubt, Outcome, Reply, State
from keybrake.vendors.inquiry import Inquiry, Judge, call_of, repeat_of
from keybrake.vendors.resend.vendor import KEYED


class ResendInquirer:
    """See ``keybrake.vendors.Inquirer``."""

    def __init__(self, resend: Judge) -> None:
        self._resend = resend

    def inquiries(self, doubt: InDoubt, now: int) -> Sequence[Inquiry]:
        """See ``Inquirer.inquiries``."""
        again = repeat_of(doubt, now) if doubt.endpoint in KEYED else None
        return [again] if again else []

    def findings(
        self, doubt: InDoubt, inquiry: Inquiry, reply: Reply, money: Money
    ) -> Sequence[Outcome]:
        """See ``Inquirer.findings``."""
        del inquiry
        ended = self._resend.outcome(call_of(doubt), reply, money)
        return [ended] if ended.state is State.SETTLED else []

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """See ``Inquirer.price_inquiry``: Resend never names a price."""
        del estimated
        return None
