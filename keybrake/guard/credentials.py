"""The vendor's credential for a call under a vault key, and another one if the vendor refuses it."""

from __future__ import annotations

import logging

from keybrake.errors import CredentialError
from keybrake.guard.door import Door
from keybrake.guard.steps import FetchCredential, Steps
from keybrake.model.call import Call, Effect
from keybrake.vendors.secret_answers import GIVES_A_SECRET
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")


def with_credential(door: Door, call: Call) -> Steps:
    """Give the door the credential that its vault key stands for, if its host may have it."""
    refusal = hosts.objection(call.vendor, door.request.url)
    if refusal is None:
        try:
            credential = yield FetchCredential(call.vendor)
        except CredentialError as error:
            refusal = ("credential_unavailable", str(error))
        else:
            refusal = door.take(credential)
    if refusal is not None:
        return call._replace(refusal=refusal, lookup=None)
    # An answer with a secret would give the agent the secret that the vault key hides.
    effect = Effect.AUTHORITY if call.endpoint in GIVES_A_SECRET else call.effect
    return call._replace(owner=door.request.owner, effect=effect)


def renew(door: Door) -> Steps:
    """Fetch the credential anew after the vendor refused it; return whether the door has another."""
    old, vendor = door.credential, door.request.vendor
    try:
        new = yield FetchCredential(vendor, refused=old)
    except CredentialError as error:
        _log.warning("the credential that %s refused could not be fetched anew: %s", vendor, error)
        return False
    return new != old and door.take(new) is None
