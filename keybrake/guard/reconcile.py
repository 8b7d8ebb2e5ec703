"""What became of it: ask the vendors about unknown outcomes and prices that were yet to come."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from keybrake import credentials
from keybrake.config import settings
from keybrake.credentials import Credential
from keybrake.errors import CredentialError, LedgerError
from keybrake.guard.vendor_client import ask
from keybrake.ledger import Ledger, Note
from keybrake.model import clock
from keybrake.model.call import (
    Call,
    Effect,
    Estimated,
    Finding,
    InDoubt,
    Outcome,
    Reply,
    Request,
    State,
)
from keybrake.model.money import show
from keybrake.vendors import VENDORS
from keybrake.vendors.inquirers import Inquiry, inquirer_of
from keybrake.wire import hosts

# Twilio: "may take up to 24 hours in rare cases", some prices never come (facts of 2026-11-23).
FINAL_AFTER = 48 * clock.HOUR


@dataclass(frozen=True, slots=True)
class Reconciler:
    """
    Asks the vendors with the operator's own credentials.

    Attributes:
        credentials: By vendor, else those of the configuration; a call made with another credential
            is left alone.
        bases: By vendor, where to ask instead of where the call went; for tests.
        repeats: Whether a call may be repeated under its own idempotency key. The vendor repeats
            its answer; a call that never arrived is carried out now, inside its reservation.
    """

    ledger: Ledger
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True

    def work(self, run_id: str | None = None) -> list[InDoubt | Estimated]:
        """Return what there is to ask about, in one run or in all of them."""
        found: list[InDoubt | Estimated] = [*self.ledger.in_doubt(), *self.ledger.estimated()]
        return [one for one in found if run_id in (None, one.run_id)]

    def reconcile(self, one: InDoubt | Estimated) -> Finding:
        """Ask about one call or position, and write down what is certain."""
        if isinstance(one, InDoubt):
            result, words = self._outcome(one)
        else:
            result, words = self._price(one)
        cost = self.ledger.in_doubt(one.seq)[0].cost
        return Finding(
            one.seq, one.run_id, one.label, one.vendor, one.endpoint, result, cost, words
        )

    def _outcome(self, doubt: InDoubt) -> tuple[str, str]:
        if doubt.request is None:
            return str(doubt.state), "its request was not kept: too large, or with files in it"
        inquirer = inquirer_of(doubt.vendor)
        why, unseen = "the vendor offers no way to ask about it", ""
        for inquiry in inquirer.inquiries(doubt, clock.now()) if inquirer else ():
            repeats = inquiry.idempotency_key is not None
            if repeats and (not_so := unseen or self._no_repeat(doubt)):
                why = not_so
                continue
            reply, why = self._asked(doubt, inquiry)
            if reply is None:
                # Nothing is repeated before the vendor was seen not to have done it.
                unseen = why
                continue
            assert inquirer is not None
            found = inquirer.findings(doubt, inquiry, reply, settings.current().money)
            mine = [outcome for outcome in found if not self._is_anothers(doubt, outcome)]
            if len(mine) == 1:
                return self._resolved(doubt, mine[0], _evidence(inquiry, reply))
            shown = f"shows {len(mine)} that it could be" if mine else "proves nothing"
            why = f"{_evidence(inquiry, reply)} {shown}"
            if not repeats and not reply.succeeded:
                unseen = f"{why}, so it was not repeated either"
        return str(doubt.state), why

    def _no_repeat(self, doubt: InDoubt) -> str | None:
        if not self.repeats:
            return "it was not repeated, as asked"
        if doubt.process_lives:
            return "its process still lives and may end it; end that process first, or resolve it by hand"
        uid = doubt.run_id
        while uid is not None:
            (run,) = self.ledger.runs(uid)
            if run.revoked_at is not None or run.paused_at is not None:
                word = "paused" if run.revoked_at is None else "revoked"
                return (
                    f"run {run.uid} is {word}, and a repeat could carry the call out now; resolve "
                    f"it by hand"
                )
            uid = run.parent_uid
        return None

    def _is_anothers(self, doubt: InDoubt, outcome: Outcome) -> bool:
        """Return whether what was found is counted already, and so was made by another call."""
        if outcome.conclusive or outcome.position in (None, doubt.position):
            return False
        assert outcome.position is not None
        return self.ledger.position(outcome.position) is not None

    def _resolved(self, doubt: InDoubt, outcome: Outcome, evidence: str) -> tuple[str, str]:
        try:
            self.ledger.resolve(doubt.seq, outcome, evidence, proven=True)
        except LedgerError as error:
            # Somebody else has found out meanwhile, or may not be overtaken.
            return self.ledger.in_doubt(doubt.seq)[0].state, str(error)
        return str(outcome.state), evidence

    def _price(self, estimated: Estimated) -> tuple[str, str]:
        inquirer = inquirer_of(estimated.vendor)
        inquiry = inquirer.price_inquiry(estimated) if inquirer else None
        why = "the vendor never names its price"
        if inquiry is not None:
            reply, why = self._asked(estimated, inquiry)
            if reply is not None:
                outcome = self._seen(estimated, inquiry, reply)
                if outcome.position == estimated.key and outcome.value_micros is not None:
                    note = _note(estimated, inquiry, reply.status, "reconcile")
                    self.ledger.observe(note, outcome)
                    return "settled", _evidence(inquiry, reply)
                why = f"{_evidence(inquiry, reply)} names no price yet"
        if clock.now() - estimated.at < FINAL_AFTER:
            return "estimated", why
        return self._final(estimated)

    def _seen(self, estimated: Estimated, inquiry: Inquiry, reply: Reply) -> Outcome:
        money = settings.current().money
        request = Request(estimated.vendor, "GET", f"{estimated.origin}{inquiry.path}", {})
        vendor = VENDORS[estimated.vendor]
        return vendor.outcome(vendor.describe(request, money), reply, money)

    def _final(self, estimated: Estimated) -> tuple[str, str]:
        words = f"no price came within {FINAL_AFTER // clock.HOUR} h; final at the estimate"
        outcome = Outcome(
            State.SETTLED,
            position=estimated.key,
            position_state="settled",
            value_micros=estimated.value,
            currency="usd",
        )
        inquiry = Inquiry("GET", estimated.path)
        self.ledger.observe(_note(estimated, inquiry, None, "final at the estimate"), outcome)
        return "settled", f"{words} of {show(estimated.value)}"

    def _asked(self, one: InDoubt | Estimated, inquiry: Inquiry) -> tuple[Reply | None, str]:
        """Return the reply, or why there is none."""
        try:
            credential = self.credentials.get(one.vendor) or credentials.current().get(one.vendor)
        except CredentialError as error:
            return None, str(error)
        if one.owner != credential.fingerprint:
            return None, f"it was made with another credential for {one.vendor}"
        origin = self.bases.get(one.vendor, one.origin)
        if not hosts.is_own(one.vendor, origin):
            return (
                None,
                f"{origin} is no host of {one.vendor}; name it in vendors.{one.vendor}.extra_hosts",
            )
        try:
            return ask(origin, one.vendor, inquiry, credential, _account(one)), ""
        except OSError as error:
            return None, f"{origin} did not answer: {error}"


def _account(one: InDoubt | Estimated) -> str:
    return one.account if one.vendor == "stripe" else ""


def _evidence(inquiry: Inquiry, reply: Reply) -> str:
    again = "" if inquiry.idempotency_key is None else ", the same request under the same key"
    return f"{inquiry.method} {inquiry.path} answered {reply.status}{again}"


def _note(estimated: Estimated, inquiry: Inquiry, status: int | None, reason: str) -> Note:
    call = Call(estimated.vendor, f"{estimated.vendor}.reconcile", "GET", inquiry.path, Effect.READ)
    return Note(secrets.token_hex(12), call, State.SETTLED, reason, http_status=status)
