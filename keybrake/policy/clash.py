"""A conflict between two calls: one may change the price that the other relies on."""

from __future__ import annotations

from typing import NamedTuple

from keybrake.model.call import State
from keybrake.model.shown import shown


class Clash(NamedTuple):
    """
    Another call that conflicts with the price of this call.

    Attributes:
        object: Key of the object that both calls touch.
        seq: Sequence number of the other call.
        endpoint: Endpoint of the other call; empty if it is no longer known.
        state: State of the other call.
        raises: True: the other call can raise the price of an object that priced this call. False:
            this call can raise the price of an object that priced the other call.
        ended: Whether the other call ended after this call's look-up began.
    """

    object: str
    seq: int
    endpoint: str
    state: str
    raises: bool
    ended: bool

    def words(self) -> tuple[str, str]:
        """Return the reason code and the text of the refusal."""
        name = shown(self.object.rpartition(":")[2].partition("#")[0].lstrip("*"))
        other = f"call {self.seq}" + (f" ({self.endpoint})" if self.endpoint else "")
        if self.ended:
            why = f"{name} kept changing while its price was looked up, last by {other}"
            return "price_may_change", why
        how = "whose outcome is unknown" if self.state == State.UNKNOWN else "which is under way"
        if self.raises:
            why = (
                f"{other}, {how}, can make {name} dearer, and the price of this call was read there"
            )
            return "price_may_change", why
        why = f"it can make {name} dearer, and the price of {other}, {how}, was read there"
        return "object_in_use", why

    def hint(self) -> str:
        """Return the hint of the refusal."""
        if self.ended:
            return "Make the call again once no other call changes it."
        return (
            f"Make the call again once call {self.seq} has ended. If it stays without an outcome, a "
            f"person can find one: keybrake unresolved, keybrake reconcile."
        )
