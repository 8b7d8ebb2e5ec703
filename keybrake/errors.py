"""
Every error that keybrake raises, as one tree.

::

    KeybrakeError
    ├── PolicyError            a cap, label, duration, pattern or config is invalid (also a ValueError)
    ├── UnsupportedSDK         keybrake cannot guard the installed SDK version (also an ImportError)
    ├── LedgerError            the ledger does not have the requested run, or cannot do the operation
    ├── CredentialError        a reference to a credential cannot be read
    ├── CallStopped            the call was sent, and led to another address: its money counts
    └── CallRefused            the guard refused the call; nothing was sent
        ├── CapExceeded            the call may cost more than a cap has left
        ├── CallLimitReached       the number of calls is used up
        ├── AmountTooLarge         one call asks for more than ``max_amount``
        ├── EndpointNotAllowed     the endpoint is not on the allowlist, or keybrake does not know it
        ├── UnknownCost            the highest possible cost cannot be determined
        ├── RunRevoked             the run was revoked
        ├── RunPaused              the run is paused
        ├── RunExpired             the run has expired
        ├── RunClosed              the ``with`` block has ended
        ├── NoActiveRun            a run is open in this process, but the call was made outside it
        ├── HostNotAllowed         the request would not go to a host of the vendor
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
    """Base class of every error that keybrake raises."""


class PolicyError(KeybrakeError, ValueError):
    """A cap, label, duration, pattern or config is invalid; nothing was written."""


class UnsupportedSDK(KeybrakeError, ImportError):
    """The installed version of a vendor's SDK cannot be guarded, so no run may use it."""


class LedgerError(KeybrakeError):
    """The ledger does not have the requested run, or cannot do the requested operation."""


class CredentialError(KeybrakeError):
    """A reference to a credential is invalid, or its source does not return the secret."""


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

    # By default an exception pickles its positional arguments only, so it would lose our keywords
    # on the way back from a process pool.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.fields)


def _rebuild(cls: Any, message: str, fields: dict[str, Any]) -> Any:
    return cls(message, **fields)


class CallRefused(_Fields, KeybrakeError):
    """
    The guard refused the call; nothing was sent.

    Amounts are ``Decimal`` US dollars. A field that does not apply to this refusal is None.

    Attributes:
        reason: A stable snake_case code, the same as in the call log.
        run_id: The run the call was made in.
        label: That run's label.
        scope: The scope that refused: ``run``, ``parent run_…`` or ``tool NAME``, then its limit.
        endpoint: ``vendor.resource.verb``.
        cap: The cap that the call would exceed.
        spent: Money already counted against that cap.
        reserved: Money set aside under that cap for calls that have not ended.
        requested: The most that this call may cost.
        remaining: ``cap - spent - reserved``.
        hint: How a person can fix it.
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
    """The call may cost more than a cap has left."""


class CallLimitReached(CallRefused):
    """The scope has used up its number of calls."""


class AmountTooLarge(CallRefused):
    """One call asks for more than ``max_amount``."""


class EndpointNotAllowed(CallRefused):
    """The endpoint is not on the allowlist, or keybrake does not know its effect on money."""


class UnknownCost(CallRefused):
    """The most the call may cost cannot be determined before it is sent."""


class RunRevoked(CallRefused):
    """The run, or one of its parents, was revoked."""


class RunPaused(CallRefused):
    """The run, or one of its parents, is paused."""


class RunExpired(CallRefused):
    """The run, or one of its parents, has expired."""


class RunClosed(CallRefused):
    """The run's block has ended, but code started inside it still makes calls."""


class NoActiveRun(CallRefused):
    """A run is open in this process, but the call was made outside every run."""


class HostNotAllowed(CallRefused):
    """The request would go to a host that is not the vendor's."""


class LedgerUnavailable(CallRefused):
    """The ledger cannot be opened, locked in time or written, so no call may be sent."""


class CredentialUnavailable(CallRefused):
    """There is no credential to send the call with."""
