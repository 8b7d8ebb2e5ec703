"""A step that calls a function in the place of a vendor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keybrake.guard.steps import SendStep


@dataclass(frozen=True, slots=True)
class Send(SendStep):
    """Send by calling *work*."""

    work: Callable[[], Any]
    limit: float | None = None

    @property
    def limit_s(self) -> float | None:
        """See ``SendStep.limit_s``."""
        return self.limit

    def send(self) -> Any:
        """See ``SendStep.send``."""
        return self.work()
