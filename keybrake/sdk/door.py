"""The base of the three SDK doors: the hook of the chokepoint, versions, copies and keys."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from keybrake.credentials import Credential
from keybrake.errors import CallRefused, CallStopped, UnsupportedSDK
from keybrake.guard.call import guarded
from keybrake.guard.steps import run_steps, run_steps_async
from keybrake.model.call import Request
from keybrake.sdk import patch, sdk_errors


class SDKDoor:
    """
    One call of an SDK at its chokepoint; see ``guard.door.Door``.

    Attributes:
        vendor: The vendor of the SDK.
        parameters: The names of the chokepoint's parameters that may be given by position.
        run: Takes the steps of the call: in this thread, or awaitable in a task.
    """

    vendor: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()
    run: ClassVar[Callable[..., Any]] = staticmethod(run_steps)
    follows_redirects = True
    vault_key: str | None
    request: Request

    def __init__(
        self, wrapped: Callable[..., Any], instance: Any, given: Mapping[str, Any]
    ) -> None:
        self._wrapped = wrapped
        self._instance = instance
        self._given = given
        self.credential: Credential | None = None

    @classmethod
    def is_under_way(cls, instance: Any, given: Mapping[str, Any]) -> bool:
        """Return whether the guard has this very call already, through another wrapper."""
        del instance, given
        raise AssertionError

    @classmethod
    def hook(
        cls, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Stand in the place of the chokepoint: every call of the SDK comes through here."""
        if instance is None and args:
            # A wrapper above ours passes the object along as the first argument.
            instance, *rest = args
            wrapped, args = functools.partial(wrapped, instance), tuple(rest)
        given = {**dict(zip(cls.parameters, args, strict=False)), **kwargs}
        if cls.is_under_way(instance, given):
            return wrapped(**given)
        patch.put_back()
        door: Any = cls(wrapped, instance, given)  # each SDK's class has the rest of Door
        return cls.run(guarded(door))

    def as_sdk_error(self, refusal: CallRefused | CallStopped) -> CallRefused | CallStopped:
        """See ``Door.as_sdk_error``."""
        place = (self.request.method, self.request.url)
        return sdk_errors.as_sdk_error(self.vendor, refusal, place)


class AsyncSDKDoor(SDKDoor):
    """One call of an SDK's async chokepoint."""

    run = staticmethod(run_steps_async)


def check_version(sdk: str, version: str, supported: tuple[int, int]) -> None:
    """Raise ``UnsupportedSDK`` unless the major version is at least the first and below the second."""
    major = version.partition(".")[0]
    low, below = supported
    if not major.isdigit() or not low <= int(major) < below:
        msg = (
            f"{sdk} {version} cannot be guarded: keybrake supports {sdk} >={low},<{below}; "
            f"install a supported version, or do not import {sdk} where a run is open"
        )
        raise UnsupportedSDK(msg)


_KEY = re.compile(r"[!-~]([ -~]*[!-~])?")


def unfit_key(key: Any, longest: int) -> tuple[str, str] | None:
    """Return why an idempotency key is refused: the vendor takes *longest* characters of ASCII."""
    if isinstance(key, str) and len(key) <= longest and _KEY.fullmatch(key):
        return None
    words = f"the idempotency key is not a text of 1 to {longest} ASCII letters"
    return "invalid_idempotency_key", words


def copied(value: Any) -> Any:
    """
    Return a copy of dictionaries and lists; other values, such as files, stay as they are.

    The guard decides on the copy and sends it, whatever another thread does to the original.
    """
    # Before version 16 an object of Stripe's is a dict, too, but the SDK sends its id.
    if isinstance(value, dict) and not hasattr(value, "stripe_id"):
        return {name: copied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value


def frames_of(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield module and function of each frame that *error* came through, outermost first."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__")), frame.f_code.co_name
        traceback = traceback.tb_next
