"""How many parts does a text go out in, as Twilio counts them: what an SMS is billed by."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# GSM 03.38, the basic table and, with an escape and so for two, its extension. Source: 3GPP TS
# 23.038 section 6.2.1; which of its characters Twilio takes: sms-segments-calculator 1.3.0.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")

# Septets of 7 bits and units of 16 in the 140 bytes of one part, and beside the header of six
# bytes that numbers the parts of several.
_GSM_ALONE, _GSM_EACH = 160, 153
_UCS_ALONE, _UCS_EACH = 70, 67

# Twilio takes 1,600 characters. Beyond this a bound will do: no part is empty.
_MOST_COUNTED = 20_000


class Counted(NamedTuple):
    """A text's encoding, ``GSM-7`` or ``UCS-2``, and the number of its parts."""

    encoding: str
    segments: int


def count(text: str) -> Counted:
    """Return in how many parts *text* goes out."""
    if len(text) > _MOST_COUNTED:
        return Counted("UCS-2", len(text))
    if _BASIC.issuperset(text) or all(c in _BASIC or c in _EXTENSION for c in text):
        septets = [2 if character in _EXTENSION else 1 for character in text]
        return Counted("GSM-7", _parts(septets, _GSM_ALONE, _GSM_EACH))
    return Counted("UCS-2", _parts(list(_clusters(text)), _UCS_ALONE, _UCS_EACH))


def _parts(sizes: list[int], alone: int, each: int) -> int:
    """Return how many parts things of *sizes*, none of which is cut in two, fill."""
    used = taken = 0
    while taken < len(sizes) and used + sizes[taken] <= alone:
        used += sizes[taken]
        taken += 1
    if taken == len(sizes):
        return 1
    # The first part needs room for a header now: what has none any more begins the second.
    last = taken
    while used > each:
        last -= 1
        used -= sizes[last]
    parts, used = 2, sum(sizes[last : taken + 1])
    for size in sizes[taken + 1 :]:
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return parts


def _clusters(text: str) -> Iterator[int]:
    """Yield the size of each grapheme cluster in UTF-16 units; Twilio cuts none in two."""
    cluster: list[str] = []
    size = 0
    for character in text:
        kind = _kind(character)
        if cluster and not _joins(cluster, kind):
            yield size
            cluster, size = [], 0
        cluster.append(kind)
        size += 2 if character > "\uffff" else 1
    if cluster:
        yield size


# The kinds of UAX 29 in its version for Unicode 10, which is the one that Twilio's calculator has
# (grapheme-splitter 1.0.4). Control breaks on both sides; a mark joins what is before it.
_CONTROL, _MARK, _ZWJ, _PREPEND, _FLAG, _OTHER = (
    "control",
    "mark",
    "zwj",
    "prepend",
    "flag",
    "other",
)
_BASE, _FAMILY, _GLUE, _MODIFIER = "base", "family", "glue", "modifier"
_L, _V, _T, _LV, _LVT = "L", "V", "T", "LV", "LVT"

_AFTER_JAMO = {
    _L: (_L, _V, _LV, _LVT),
    _LV: (_V, _T),
    _V: (_V, _T),
    _LVT: (_T,),
    _T: (_T,),
}


def _joins(cluster: list[str], kind: str) -> bool:
    """Return whether a character of *kind* goes on with the cluster before it."""
    last = cluster[-1]
    if _CONTROL in (last, kind) or _is_full_flag(cluster):
        return False
    if kind in (_MARK, _ZWJ) or last == _PREPEND or kind in _AFTER_JAMO.get(last, ()):
        return True
    if kind == _MODIFIER:
        # One mark at most between a base and its skin tone, and none earlier in the cluster.
        before = cluster[-2:-1] if last == _MARK else [last] * (_MARK not in cluster)
        return before in ([_BASE], [_FAMILY])
    if last == _ZWJ and kind in (_GLUE, _FAMILY):
        return True
    return last == kind == _FLAG and cluster.count(_FLAG) == 1


def _is_full_flag(cluster: list[str]) -> bool:
    """Return whether *cluster* is a flag with a mark behind it: the calculator ends it there."""
    return (
        len(cluster) > 2
        and cluster[1] == _FLAG
        and cluster[-1] not in (_FLAG, _PREPEND)
        and _FLAG not in cluster[2:]
    )


def _ranges(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split():
        low, _, high = part.partition("-")
        found.update(range(int(low, 16), int(high or low, 16) + 1))
    return frozenset(found)


# Source: Unicode 10, GraphemeBreakProperty.txt (unicode.org/Public/10.0.0).
_KINDS = {
    _PREPEND: _ranges("600-605 6DD 70F 8E2 D4E 110BD 111C2-111C3 11A3A 11A86-11A89 11D46"),
    _FLAG: _ranges("1F1E6-1F1FF"),
    _MODIFIER: _ranges("1F3FB-1F3FF"),
    _FAMILY: _ranges("1F466-1F469"),
    _GLUE: _ranges(
        "2640 2642 2695-2696 2708 2764 1F308 1F33E 1F373 1F393 1F3A4 1F3A8 1F3EB 1F3ED 1F48B "
        "1F4BB-1F4BC 1F527 1F52C 1F5E8 1F680 1F692"
    ),
    _BASE: _ranges(
        "261D 26F9 270A-270D 1F385 1F3C2-1F3C4 1F3C7 1F3CA-1F3CC 1F442-1F443 1F446-1F450 1F46E "
        "1F470-1F478 1F47C 1F481-1F483 1F485-1F487 1F4AA 1F574-1F575 1F57A 1F590 1F595-1F596 "
        "1F645-1F647 1F64B-1F64F 1F6A3 1F6B4-1F6B6 1F6C0 1F6CC 1F918-1F91C 1F91E-1F91F 1F926 "
        "1F930-1F939 1F93D-1F93E 1F9D1-1F9DD"
    ),
    _ZWJ: _ranges("200D"),
    # Marks by another name: a joiner that does not join, tags, and vowels that take up space.
    _MARK: _ranges("200C E33 EB3 FF9E-FF9F E0020-E007F"),
    _L: _ranges("1100-115F A960-A97C"),
    _V: _ranges("1160-11A7 D7B0-D7C6"),
    _T: _ranges("11A8-11FF D7CB-D7FB"),
    # Marks that stand by themselves.
    _OTHER: _ranges(
        "102B-102C 1038 1062-1064 1067-106D 1083 1087-108C 108F 109A-109C 1A61 1A63-1A64 AA7B AA7D "
        "11720-11721"
    ),
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes}
_KIND_OF_CATEGORY = {
    **dict.fromkeys(("Mn", "Mc", "Me"), _MARK),
    **dict.fromkeys(("Cc", "Cf", "Cs", "Zl", "Zp"), _CONTROL),
}
_HANGUL = range(0xAC00, 0xD7A4)
_FINALS = 28  # a syllable without a final consonant, and 27 with one, for each lead and vowel


def _kind(character: str) -> str:
    code = ord(character)
    if code in _HANGUL:
        return _LVT if (code - _HANGUL.start) % _FINALS else _LV
    return _KIND_OF.get(code) or _KIND_OF_CATEGORY.get(unicodedata.category(character), _OTHER)
