"""Count the segments of an SMS text the way Twilio bills them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# The GSM 03.38 alphabet: a basic character takes one septet, one of the extension two, because it
# needs an escape. Source: 3GPP TS 23.038 section 6.2.1, limited to the characters that Twilio
# accepts (sms-segments-calculator 1.3.0).
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")

# A segment has 140 bytes: 160 septets of 7 bits, or 70 units of 16. A text of several segments
# needs a header of 6 bytes in each, which leaves 153 septets or 67 units.
_GSM_ALONE, _GSM_EACH = 160, 153
_UCS_ALONE, _UCS_EACH = 70, 67

# Twilio accepts 1,600 characters. For longer texts than this, one segment per character is a safe
# upper bound and saves the counting.
_MOST_COUNTED = 20_000


class Counted(NamedTuple):
    """The encoding of a text, ``GSM-7`` or ``UCS-2``, and its number of segments."""

    encoding: str
    segments: int


def count(text: str) -> Counted:
    """Return the encoding and the number of segments of *text*."""
    if len(text) > _MOST_COUNTED:
        return Counted("UCS-2", len(text))
    if _BASIC.issuperset(text) or all(c in _BASIC or c in _EXTENSION for c in text):
        septets = [2 if character in _EXTENSION else 1 for character in text]
        return Counted("GSM-7", _parts(septets, _GSM_ALONE, _GSM_EACH))
    return Counted("UCS-2", _parts(list(_clusters(text)), _UCS_ALONE, _UCS_EACH))


def _parts(sizes: list[int], alone: int, each: int) -> int:
    """Return the number of segments that items of *sizes* fill if none may be split."""
    used = taken = 0
    while taken < len(sizes) and used + sizes[taken] <= alone:
        used += sizes[taken]
        taken += 1
    if taken == len(sizes):
        return 1
    # A second segment is needed, so the first one needs a header too. Items that no longer fit
    # into the first move to the second.
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
    """Yield the size of each grapheme cluster in UTF-16 units; Twilio never splits a cluster."""
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


# Character classes of UAX 29 for Unicode 10, the version in Twilio's calculator (grapheme-splitter
# 1.0.4). A control character breaks on both sides; a mark joins the character before it.
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
    """Return whether a character of *kind* belongs to the cluster before it."""
    last = cluster[-1]
    if _CONTROL in (last, kind) or _is_full_flag(cluster):
        return False
    if kind in (_MARK, _ZWJ) or last == _PREPEND or kind in _AFTER_JAMO.get(last, ()):
        return True
    if kind == _MODIFIER:
        # A skin tone joins its base with at most one mark between them, and no earlier mark.
        before = cluster[-2:-1] if last == _MARK else [last] * (_MARK not in cluster)
        return before in ([_BASE], [_FAMILY])
    if last == _ZWJ and kind in (_GLUE, _FAMILY):
        return True
    return last == kind == _FLAG and cluster.count(_FLAG) == 1


def _is_full_flag(cluster: list[str]) -> bool:
    """Return whether *cluster* is a flag followed by a mark, where the calculator ends it."""
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
    # Characters outside the mark categories that act as marks: ZERO WIDTH NON-JOINER, tags, and
    # a few vowel signs.
    _MARK: _ranges("200C E33 EB3 FF9E-FF9F E0020-E007F"),
    _L: _ranges("1100-115F A960-A97C"),
    _V: _ranges("1160-11A7 D7B0-D7C6"),
    _T: _ranges("11A8-11FF D7CB-D7FB"),
    # Characters in the mark categories that start a cluster.
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
# Each pair of lead consonant and vowel has one syllable without a final consonant, then 27 with.
_FINALS = 28


def _kind(character: str) -> str:
    code = ord(character)
    if code in _HANGUL:
        return _LVT if (code - _HANGUL.start) % _FINALS else _LV
    return _KIND_OF.get(code) or _KIND_OF_CATEGORY.get(unicodedata.category(character), _OTHER)
