"""Ask Resend what became of a call: the same request under the same key."""

from __future__ import annotations

from collections.abc import Sequence

from keybrake._config import Money
from keybrake._model import Call, Estimated, InDoubt, Outcome, Reply, Request, State
from keybrake.vendors._inquiry import Inquiry, Judge, call_of, repeat_of
from keybrake.vendors.resend import KEYED


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
        ended = self._resend.outcome(self._call(doubt, inquiry, money), reply, money)
        return [ended] if ended.state is State.SETTLED else []

    def _call(self, doubt: InDoubt, inquiry: Inquiry, money: Money) -> Call:
        """Return the call with what each of its emails costs, if that is still what was reserved."""
        request = Request("resend", doubt.method, f"{doubt.origin}{doubt.path}", inquiry.params)
        each = self._resend.describe(request, money).gathered
        call = call_of(doubt)
        return call._replace(gathered=each) if sum(each) == doubt.reserved else call

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """See ``Inquirer.price_inquiry``: Resend never names a price."""
        del estimated
        return None
