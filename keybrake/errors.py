"""
Every error keybrake raises, drawn as one tree.

::

    KeybrakeError
    ├── PolicyError            a cap, label, duration, pattern or config that cannot be meant (also a ValueError)
    ├── UnsupportedSDK         a vendor SDK this version cannot guard, told at install (also an ImportError)
    ├── LedgerError            the ledger was asked for something it does not have
    ├── CredentialError        a reference to a credential that cannot be read
    ├── CallStopped            the call was sent, and led to another address: its money counts
    └── CallRefused            the guard's no: nothing was sent
        ├── CapExceeded            the money does not fit into a cap
        ├── CallLimitReached       the number of calls is used up
        ├── AmountTooLarge         one call asks for more than ``max_amount``
        ├── EndpointNotAllowed     not on the allowlist, or nothing is known about it
        ├── UnknownCost            nobody can say what it would cost at most
        ├── RunRevoked             somebody ended the run
        ├── RunPaused              somebody stopped the run for a while
        ├── RunExpired             the run's time is over
        ├── RunClosed              the ``with`` block has ended
        ├── NoActiveRun            a run is open in this process, but not around this call
        ├── HostNotAllowed         not an address of the vendor
        ├── LedgerUnavailable      the ledger cannot be opened, locked in time or written
        └── CredentialUnavailable  there is no credential to send the call with
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

__all__ = [
    "AmountTooLarge",
    "CallLimitReached",
    "CallRefused",
    "CallStopped",
    "CapExceeded",
    "CredentialError",
    "CredentialUnavailable",
    "EndpointNotAllowed",
    "HostNotAllowed",
    "KeybrakeError",
    "LedgerError",
    "LedgerUnavailable",
    "NoActiveRun",
    "PolicyError",
    "RunClosed",
    "RunExpired",
    "RunPaused",
    "RunRevoked",
    "UnknownCost",
    "UnsupportedSDK",
]


class KeybrakeError(Exception):
    """Root of every error keybrake raises."""


class PolicyError(KeybrakeError, ValueError):
    """A cap, label, duration, pattern or config cannot be meant; nothing was written."""


class UnsupportedSDK(KeybrakeError, ImportError):
    """This version of a vendor's SDK cannot be guarded, so it may not be used here."""


class LedgerError(KeybrakeError):
    """The ledger was asked for something it does not have or cannot do."""


class CredentialError(KeybrakeError):
    """A reference to a credential cannot be understood or read."""


class _Fields:
    """The fields that a refused and a stopped call share; see ``CallRefused``."""

    _fields: ClassVar[tuple[str, ...]] = (
        "reason",
        "run_id",
        "label",
        "scope",
        "endpoint",
        "cap",
        "spent",
        "reserved",
        "requested",
        "remaining",
        "hint",
    )

    def __init__(  # noqa: PLR0913 -- the fields of a refusal are documented one by one
        self,
        message: str,
        *,
        reason: str,
        run_id: str | None = None,
        label: str | None = None,
        scope: str | None = None,
        endpoint: str | None = None,
        cap: Decimal | None = None,
        spent: Decimal | None = None,
        reserved: Decimal | None = None,
        requested: Decimal | None = None,
        remaining: Decimal | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)  # type: ignore[call-arg]  # the error beside this class takes it
        self.message = message
        self.reason = reason
        self.run_id = run_id
        self.label = label
        self.scope = scope
        self.endpoint = endpoint
        self.cap = cap
        self.spent = spent
        self.reserved = reserved
        self.requested = requested
        self.remaining = remaining
        self.hint = hint

    @property
    def fields(self) -> dict[str, Any]:
        """Return every field by name, as the constructor takes them."""
        return {name: getattr(self, name) for name in self._fields}

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, reason={self.reason!r})"

    # Exceptions pickle by their positional arguments; ours has keywords, and has to come
    # back whole from a process pool.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.fields)


def _rebuild(cls: Any, message: str, fields: dict[str, Any]) -> Any:
    return cls(message, **fields)


class CallRefused(_Fields, KeybrakeError):
    """
    The guard's no: nothing was sent.

    Amounts are ``Decimal`` US dollars; a field that says nothing about this refusal is None.

    Attributes:
        reason: A stable snake_case code, the same as in the call log.
        run_id: The run the call was made in.
        label: That run's label.
        scope: Which scope said no: ``run``, ``parent run_…``, ``tool NAME``, and which of its limits.
        endpoint: ``vendor.resource.verb``.
        cap: The cap that binds.
        spent: What that cap has counted already.
        reserved: What it holds for calls that have not ended.
        requested: What this call may cost at most.
        remaining: ``cap - spent - reserved``.
        hint: What a person can do about it.
        retryable: Always False: the same call would be refused again.
    """

    retryable: ClassVar[bool] = False


class CallStopped(_Fields, KeybrakeError):
    """
    The call was sent, and then led to another address than was decided on.

    The vendor may have carried it out, so its money counts until a person resolves it. It is no
    ``CallRefused``: making the call in another way may pay twice. The fields are those of
    ``CallRefused``.
    """


class CapExceeded(CallRefused):
    """The call's worst case does not fit into what is left of a cap."""


class CallLimitReached(CallRefused):
    """The scope has made as many calls as it may."""


class AmountTooLarge(CallRefused):
    """One call asks for more than ``max_amount``."""


class EndpointNotAllowed(CallRefused):
    """The endpoint is not on the allowlist, or nothing is known about what it does."""


class UnknownCost(CallRefused):
    """Nobody can say before the call what it would cost at most."""


class RunRevoked(CallRefused):
    """Somebody ended the run for good."""


class RunPaused(CallRefused):
    """Somebody stopped the run for a while."""


class RunExpired(CallRefused):
    """The run's time is over."""


class RunClosed(CallRefused):
    """The run's block has ended; something it left behind is still calling."""


class NoActiveRun(CallRefused):
    """A run is open in this process, but this call stands in none."""


class HostNotAllowed(CallRefused):
    """The call would go somewhere else than to the vendor."""


class LedgerUnavailable(CallRefused):
    """The ledger cannot be opened, locked in time or written, so no call may go out."""


class CredentialUnavailable(CallRefused):
    """There is no credential to send the call with."""
