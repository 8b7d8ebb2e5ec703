"""Refusals that are also the SDK's own error, so that the handlers of its users catch them."""

from __future__ import annotations

from typing import Any, Protocol

from keybrake.errors import CallRefused, CallStopped

# The method and URL of the request that was refused.
Place = tuple[str, str]


class ErrorShape(Protocol):
    """How an error of keybrake's becomes an error of one SDK, too."""

    def sdk_class(self) -> type[Exception]:
        """Return the SDK's class; it is looked up each time, because the SDK may be imported anew."""

    def start(self, error: Any, message: str) -> None:
        """Call the constructor of the SDK's class."""

    def finish(self, error: Any, place: Place) -> None:
        """Set the attributes that the SDK's users read."""


_shapes: dict[str, ErrorShape] = {}
_classes: dict[tuple[type, type], Any] = {}


def register(vendor: str, shape: ErrorShape) -> None:
    """Remember the shape of a vendor's errors: an error that is unpickled needs it, too."""
    _shapes[vendor] = shape


def as_sdk_error(
    vendor: str, error: CallRefused | CallStopped, place: Place = ("", "")
) -> CallRefused | CallStopped:
    """Return *error* as one that is also the error of the vendor's SDK."""
    return rebuild(vendor, type(error), error.message, place, error.fields)


def rebuild(
    vendor: str, kind: type, message: str, place: Place, fields: dict[str, Any]
) -> CallRefused | CallStopped:
    """Make the error of both classes; pickle calls this in another process."""
    made: CallRefused | CallStopped = _both(vendor, kind)(message, place, **fields)
    return made


def _both(vendor: str, kind: Any) -> Any:
    """Return the class that is *kind* and the SDK's class."""
    shape = _shapes[vendor]
    sdk_class = shape.sdk_class()
    if (kind, sdk_class) in _classes:
        return _classes[kind, sdk_class]

    def start(self: Any, message: str) -> None:
        shape.start(self, message)

    def __init__(self: Any, message: str, place: Place, **fields: Any) -> None:  # noqa: N807
        kind.__init__(self, message, **fields)
        self._place = place
        shape.finish(self, place)

    def __reduce__(self: Any) -> tuple[Any, ...]:  # noqa: N807
        return rebuild, (vendor, kind, self.message, self._place, self.fields)

    # kind.__init__ calls the next constructor with the message alone.
    adapted = type(sdk_class.__name__, (sdk_class,), {"__init__": start})
    body = {
        "__init__": __init__,
        "__reduce__": __reduce__,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    made = _classes[kind, sdk_class] = type(kind.__name__, (kind, adapted), body)
    return made
