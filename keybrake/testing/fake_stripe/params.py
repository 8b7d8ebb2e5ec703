"""Read and validate request parameters by Stripe's types."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from keybrake.testing.fake_stripe.errors import StripeFailure, missing

_INTEGER: Final = re.compile(r"-?[0-9]{1,30}")
_MAX_DIGITS: Final = 12
_METADATA_KEYS: Final = 50
_CURRENCY_CODES: Final = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp byn
    bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel ghs gip gmd
    gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak
    lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mro mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd
    omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sll sos srd std
    svc szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar
    zmw
    """
_CURRENCIES: Final = frozenset(_CURRENCY_CODES.split())

Params = Mapping[str, Any]


def integer(params: Params, name: str, *, least: int | None = None) -> int | None:
    """Return a whole number, or None if it is missing."""
    value = params.get(name)
    if value is None:
        return None
    if value == "":
        raise StripeFailure(message=f"{name} is empty.", code="parameter_invalid_empty", param=name)
    if isinstance(value, bool) or not _INTEGER.fullmatch(str(value)):
        raise StripeFailure(
            message=f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
        )
    if least is not None and int(value) < least:
        raise StripeFailure(
            message=f"{name} must be at least {least}.",
            code="parameter_invalid_integer",
            param=name,
        )
    return int(value)


def optional_amount(params: Params, name: str = "amount") -> int | None:
    """Return an amount in minor units, or None if it is missing."""
    amount = integer(params, name, least=1)
    if amount is not None and amount >= 10**_MAX_DIGITS:
        raise StripeFailure(
            message=f"{name} has more than {_MAX_DIGITS} digits.",
            code="amount_too_large",
            param=name,
        )
    return amount


def required_amount(params: Params, name: str = "amount") -> int:
    """Return a required amount in minor units."""
    amount = optional_amount(params, name)
    if amount is None:
        raise missing(name)
    return amount


def required_currency(params: Params) -> str:
    """Return a required currency in lower case; reject one that Stripe does not know."""
    value = str(required(params, "currency")).lower()
    if value not in _CURRENCIES:
        raise StripeFailure(message=f"Invalid currency: {value}", param="currency")
    return value


def required(params: Params, name: str) -> str:
    """Return a required text."""
    value = params.get(name)
    if value is None or value == "":
        raise missing(name)
    return str(value)


def flag(params: Params, name: str, *, default: bool = False) -> bool:
    """Return a boolean."""
    value = str(params.get(name, default)).lower()
    if value not in {"true", "false"}:
        raise StripeFailure(message=f"Invalid boolean: {value}", param=name)
    return value == "true"


def choice(params: Params, name: str, options: Iterable[str], default: str) -> str:
    """Return one of *options*."""
    value = str(params.get(name, default))
    if value not in options:
        allowed = ", ".join(options)
        raise StripeFailure(message=f"Invalid {name}: must be one of {allowed}.", param=name)
    return value


def metadata(params: Params, old: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return *old* updated with the metadata in the request; an empty value removes a name."""
    sent = params.get("metadata")
    if sent is None:
        return dict(old or {})
    if sent == "":
        return {}
    if not isinstance(sent, Mapping):
        raise StripeFailure(message="Invalid metadata: must be a hash.", param="metadata")
    merged = {**(old or {}), **{str(name): str(value) for name, value in sent.items()}}
    if len(merged) > _METADATA_KEYS:
        raise StripeFailure(message=f"More than {_METADATA_KEYS} metadata keys.", param="metadata")
    return {name: value for name, value in merged.items() if value}


def as_sent(params: Params, names: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of *names* in the request; an empty value becomes None."""
    return {name: params[name] or None for name in names if name in params}


def subset(params: Params, name: str) -> Params:
    """Return the parameters nested under *name*, or an empty mapping."""
    value = params.get(name)
    return value if isinstance(value, Mapping) else {}
