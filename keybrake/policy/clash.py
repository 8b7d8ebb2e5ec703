"""Another call by which a price may not hold, and the words for it."""

from __future__ import annotations

from typing import NamedTuple

from keybrake.model.call import State
from keybrake.model.shown import shown


class Clash(NamedTuple):
    """
    Another call that has to do with the price of this one.

    Attributes:
        object: Key of the object that both are about.
        seq: Number of the other call.
        endpoint: Of the same; empty where that is not known any more.
        state: Of the same.
        raises: Whether it can make the object dearer that this call was priced by; else it was
            priced by the object that this call can make dearer.
        ended: Whether it has ended since this call's look-up began.
    """

    object: str
    seq: int
    endpoint: str
    state: str
    raises: bool
    ended: bool

    def words(self) -> tuple[str, str]:
        """Return the reason of a refusal, and in words why the price may not hold."""
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
        """Return in words what helps."""
        if self.ended:
            return "Make the call again once no other call changes it."
        return (
            f"Make the call again once call {self.seq} has ended. If it stays without an outcome, a "
            f"person can find one: keybrake unresolved, keybrake reconcile."
        )
