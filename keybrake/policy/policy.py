"""``Policy`` and ``Limit``: check caps, limits, allowlist and expiry; convert to ledger units."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from keybrake.errors import PolicyError
from keybrake.model import clock
from keybrake.model.call import Call, Meter
from keybrake.model.money import micros_of
from keybrake.model.shown import shown

METER = "meter:"
"""Prefix of a limit on one kind of money: ``meter:outflow``."""

MOST_CALLS = 10**12
_CALENDAR = ("hour", "day", "month")
_LONGEST_ROLLING = 31 * clock.DAY
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DOTTED = re.compile(r"[a-z][a-z0-9_]{0,39}(\.([a-z0-9_]{1,60}|\*)){2,6}")
_BY_PATH = re.compile(
    r"(GET|POST|PUT|PATCH|DELETE) ([a-z][a-z0-9_]{0,39}):((?:/(?:[A-Za-z0-9_.-]{1,80}|\*)){1,12})"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """
    The most money and the most calls for some endpoints, per run or per window of time.

    Attributes:
        cap: Maximum money in USD, rounded down to a micro-dollar; None: no cap.
        max_calls: Maximum number of admitted calls; None: any number.
        per: ``"run"``, a calendar window in UTC (``"hour"``, ``"day"``, ``"month"``) or a rolling
            duration (``"90m"``, ``"24h"``). A rolling window starts at a full minute, so it can be
            up to one minute longer.

    Raises:
        PolicyError: A field is invalid, or neither *cap* nor *max_calls* is given.
    """

    cap: Decimal | float | str | None = None
    max_calls: int | None = None
    per: str = "run"

    def __post_init__(self) -> None:
        """Check the fields."""
        _amount(self.cap, "cap")
        _count(self.max_calls, "max_calls")
        if self.cap is None and self.max_calls is None:
            msg = "Limit() limits nothing; give it a cap, max_calls or both"
            raise PolicyError(msg)
        _check_window(self.per)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    Caps, limits, allowlist and expiry of a scope; many runs can share one policy.

    The fields are those of :func:`keybrake.run`. ``cap=None`` explicitly sets no cap;
    ``expires_in=None`` means never.

    Raises:
        PolicyError: A field is invalid; the text names it, its value and how to fix it.
    """

    cap: Decimal | float | str | None
    daily_usd_cap: Decimal | float | str | None = None
    max_calls: int | None = None
    max_amount: Decimal | float | str | None = None
    allow: Sequence[str] | None = None
    limits: Mapping[str, Limit | Mapping[str, Any]] | None = None
    expires_in: object = "24h"

    def __post_init__(self) -> None:
        """Check the fields, and copy the mutable ones so that they cannot change afterwards."""
        terms_of(self)
        if self.allow is not None:
            object.__setattr__(self, "allow", tuple(self.allow))
        if self.limits is not None:
            object.__setattr__(self, "limits", dict(self.limits))

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], *, where: str) -> Policy:
        """
        Return the policy in a table of a config file.

        Raises:
            PolicyError: A key is unknown, ``cap`` is missing, or a value is invalid.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(given) - known):
            msg = f"{where}: unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}"
            raise PolicyError(msg)
        if "cap" not in given:
            # TOML has no null, so "none" is how a file explicitly sets no cap.
            msg = f'{where}: cap is missing; write an amount in USD, or cap = "none" for no cap'
            raise PolicyError(msg)
        values = {name: None if value == "none" else value for name, value in given.items()}
        try:
            return cls(**values)
        except PolicyError as error:
            msg = f"{where}: {error}"
            raise PolicyError(msg) from None


class Rule(NamedTuple):
    """One limit in ledger units; *cap* in micros."""

    pattern: str
    per: str
    cap: int | None
    max_calls: int | None

    def bucket(self, at: int) -> int:
        """Return the start of the bucket that counts a call admitted *at* that time."""
        if self.per == "run":
            return 0
        if self.per == "month":
            return clock.month_start(at)
        size = {"hour": clock.HOUR, "day": clock.DAY}.get(self.per, clock.MINUTE)
        return at - at % size

    def since(self, at: int) -> int:
        """Return the first bucket inside the window of a call made *at* that time."""
        if self.per == "run" or self.per in _CALENDAR:
            return self.bucket(at)
        # Count the whole first minute: the window may be too long, but never too short.
        return self.bucket(at - clock.duration(self.per, field="per"))


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy in ledger units (integer micros), as the ledger stores it."""

    cap: int | None
    max_calls: int | None
    max_amount: int | None
    allow: tuple[str, ...] | None
    rules: tuple[Rule, ...]

    def dump(self) -> str:
        """Return the terms as JSON for the ledger."""
        kept = [self.cap, self.max_calls, self.max_amount, self.allow, self.rules]
        return json.dumps(kept, separators=(",", ":"))


@lru_cache(maxsize=4096)
def load_terms(text: str) -> Terms:
    """Parse the output of :meth:`Terms.dump`."""
    cap, max_calls, max_amount, allow, rules = json.loads(text)
    return Terms(
        cap=cap,
        max_calls=max_calls,
        max_amount=max_amount,
        allow=None if allow is None else tuple(allow),
        rules=tuple(Rule(*rule) for rule in rules),
    )


def terms_of(policy: Policy) -> Terms:
    """
    Convert *policy* to ledger units.

    Raises:
        PolicyError: A field is invalid.
    """
    expiry_of(policy)
    rules = []
    if policy.daily_usd_cap is not None:
        daily = _amount(policy.daily_usd_cap, "daily_usd_cap")
        rules.append(Rule("*", "day", daily, None))
    rules.extend(_rules(policy.limits))
    return Terms(
        cap=_amount(policy.cap, "cap"),
        max_calls=_count(policy.max_calls, "max_calls"),
        max_amount=_amount(policy.max_amount, "max_amount"),
        allow=_allow(policy.allow),
        rules=tuple(rules),
    )


def expiry_of(policy: Policy) -> int | None:
    """Return the lifetime of a run under *policy*, in microseconds; None: it never expires."""
    if policy.expires_in is None:
        return None
    return clock.duration(policy.expires_in, field="expires_in")


def _amount(value: object, field: str) -> int | None:
    return None if value is None else micros_of(value, field=field)


def _count(value: object, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_CALLS:
        msg = f"{field}={shown(value)} is not a number of calls; write a whole number from 0 up"
        raise PolicyError(msg)
    return value


def _check_window(per: object) -> None:
    if per == "run" or per in _CALENDAR:
        return
    try:
        rolling = clock.duration(per, field="per") if isinstance(per, str) else 0
    except PolicyError:
        rolling = 0
    if not clock.MINUTE <= rolling <= _LONGEST_ROLLING:
        msg = (
            f'per={shown(per)} is not a window; write "run", "hour", "day", "month", or a duration '
            f'from "1m" to "31d" such as "90m"'
        )
        raise PolicyError(msg)


def _allow(patterns: object) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    if isinstance(patterns, str) or not isinstance(patterns, Sequence):
        msg = f'allow={shown(patterns)} is not a list of patterns; write allow=["stripe.refunds.create"]'
        raise PolicyError(msg)
    return tuple(_pattern(pattern, "allow") for pattern in patterns)


def _rules(limits: object) -> Iterator[Rule]:
    if limits is None:
        return
    if not isinstance(limits, Mapping):
        msg = f'limits={shown(limits)} is not a table; write limits={{"stripe.refunds.create": Limit(cap=50)}}'
        raise PolicyError(msg)
    for pattern, limit in limits.items():
        name = _pattern(pattern, "limits")
        parsed = limit if isinstance(limit, Limit) else _limit(limit, name)
        cap = _amount(parsed.cap, f"limits[{name}].cap")
        yield Rule(name, parsed.per, cap, parsed.max_calls)


def _limit(value: object, name: str) -> Limit:
    if not isinstance(value, Mapping):
        msg = f"limits[{name}]={shown(value)} is not a Limit; write Limit(cap=50) or Limit(max_calls=5)"
        raise PolicyError(msg)
    known = {field.name for field in fields(Limit)}
    if unknown := sorted(set(value) - known):
        msg = (
            f"limits[{name}]: unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}"
        )
        raise PolicyError(msg)
    return Limit(**value)


def _pattern(pattern: object, field: str) -> str:
    if isinstance(pattern, str) and (_DOTTED.fullmatch(pattern) or _BY_PATH.fullmatch(pattern)):
        return pattern
    if field == "limits" and isinstance(pattern, str) and pattern.startswith(METER):
        if pattern.removeprefix(METER) in set(Meter):
            return pattern
        msg = (
            f"limits: {shown(pattern)} is no meter; known are {', '.join(METER + m for m in Meter)}"
        )
        raise PolicyError(msg)
    msg = (
        f"{field}: {shown(pattern)} is not an endpoint pattern; write vendor.resource.verb with * for "
        f"one segment (stripe.refunds.create, stripe.*.list), or METHOD vendor:/path "
        f"(GET stripe:/v1/charges/*)"
    )
    if pattern == "*":
        msg += "; to allow every classified endpoint leave allow out"
    raise PolicyError(msg)


def applies(pattern: str, call: Call) -> bool:
    """Return whether *pattern*, an endpoint pattern or a meter, matches this call."""
    if pattern.startswith(METER):
        return call.meter is not None and pattern == METER + call.meter
    return matches(pattern, call.endpoint, call.method, call.path)


def names_exactly(pattern: str, call: Call) -> bool:
    """Return whether an endpoint pattern without wildcards matches this call."""
    return "*" not in pattern and matches(pattern, call.endpoint, call.method, call.path)


@lru_cache(maxsize=8192)
def matches(pattern: str, endpoint: str, method: str, path: str) -> bool:
    """Return whether an endpoint pattern matches this call; ``*`` matches exactly one segment."""
    if pattern == "*":
        return True
    if by_path := _BY_PATH.fullmatch(pattern):
        vendor = endpoint.partition(".")[0]
        return (
            by_path[1] == method
            and by_path[2] == vendor
            and _segments_match(by_path[3].split("/"), path.split("/"))
        )
    return _segments_match(pattern.split("."), endpoint.split("."))


def _segments_match(pattern: Sequence[str], given: Sequence[str]) -> bool:
    return len(pattern) == len(given) and all(
        part in ("*", name) for part, name in zip(pattern, given, strict=True)
    )
