"""Are the parts of a text message those that Twilio bills?"""

import json
import random
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake.vendors.twilio import sms_segments
from tests._each import each
from tests.vendors._twilio import VECTORS

_FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
_FLAG = "\U0001f1e9\U0001f1ea"


@each(
    "step",
    [v["steps"][0] for v in VECTORS["vectors"] if "segments" in v["steps"][0]],
    ids=lambda step: f"{len(step['params']['Body'])} characters",
)
def test_the_examples(step):
    """The examples come out as Twilio's own calculator says."""
    assert sms_segments.count(step["params"]["Body"]) == (step["encoding"], step["segments"])


@each(
    ("text", "encoding", "segments"),
    [
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 306, "GSM-7", 2),
        ("a" * 307, "GSM-7", 3),
        ("a" * 159 + "€", "GSM-7", 2),
        # The escape sign does not leave its character: 152 and 2 do not fit into one part.
        ("a" * 152 + "€" * 5, "GSM-7", 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 3),
        # What the second part has no room for begins the third, which is full by one then.
        ("a" * 305 + "€" + "a" * 151, "GSM-7", 3),
        ("a" * 305 + "€" + "a" * 152, "GSM-7", 4),
        ("\r\n" * 80, "GSM-7", 1),
        ("é" * 160, "GSM-7", 1),
        ("ё" * 70, "UCS-2", 1),
        ("ё" * 71, "UCS-2", 2),
        ("ё" * 134, "UCS-2", 2),
        ("ё" * 135, "UCS-2", 3),
        # Eleven units each: six of them are 66, and a seventh would be cut in two.
        (_FAMILY * 6, "UCS-2", 1),
        (_FAMILY * 12, "UCS-2", 2),
        (_FAMILY * 13, "UCS-2", 3),
        ("x" + _FLAG * 17, "UCS-2", 1),
        ("xxx" + _FLAG * 17, "UCS-2", 2),
        ("ё" * 65 + _FLAG * 16, "UCS-2", 2),
        ("ё" * 65 + _FLAG * 17, "UCS-2", 3),
        ("e\u0301" * 35, "UCS-2", 1),
        ("e\u0301" * 36, "UCS-2", 2),
    ],
)
def test_borders(text, encoding, segments):
    """A text goes out in one more part exactly where Twilio begins one."""
    assert sms_segments.count(text) == (encoding, segments)


@given(st.text(max_size=400))
def test_any_text_has_its_parts(text):
    """Whatever the text, there is an answer, and no part of it is empty."""
    assert 1 <= sms_segments.count(text).segments <= max(1, len(text))


@given(st.text("ab€é\n", max_size=800), st.text("abё\U0001f600", max_size=400))
def test_parts_hold_what_is_sent(gsm, ucs):
    """The parts of a text hold all of it: 160 septets or 70 units, less a header if several."""
    septets = len(gsm) + gsm.count("€")
    parts = sms_segments.count(gsm).segments
    assert septets <= (160 if parts == 1 else 153 * parts)
    units = len(ucs.encode("utf-16-le")) // 2
    found = sms_segments.count(ucs)
    if found.encoding == "UCS-2":
        assert units <= (70 if found.segments == 1 else 67 * found.segments)


def test_a_giant_text_is_bounded_and_quick():
    """A text far beyond what Twilio takes is counted without walking through it."""
    assert sms_segments.count("a" * 10_000_000) == ("UCS-2", 10_000_000)


_CALCULATOR = """
const {SegmentedMessage} = require(process.argv[1]);
let text = '';
process.stdin.on('data', part => text += part);
process.stdin.on('end', () => console.log(JSON.stringify(JSON.parse(text).map(one => {
    const message = new SegmentedMessage(one);
    return [message.encodingName, message.segments.length];
}))));
"""
_BUILDING_BLOCKS = [
    *(_FAMILY, "\U0001f469\U0001f3fd\u200d\U0001f680", "\U0001f3f3\ufe0f\u200d\U0001f308"),
    *(
        "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468\U0001f3fd",
        "\u261d\ufe0f\U0001f3fd",
    ),
    *(_FLAG, "\U0001f1e9", "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e007f", "1\ufe0f\u20e3"),
    *("e\u0301", "a\u0300\u0301\u0302", "\u0928\u093f", "\u0b95\u0bcd\u0bb7\u0bbf", "\u0e01\u0e33"),
    *("\uac01", "\ud55c", "\u1112", "\u1161", "\u11ab", "\u1000\u102c", "\u0600", "\u0903"),
    *(
        "\r\n",
        "\r",
        "\n",
        "\f",
        "€",
        "{",
        "[",
        "~",
        "\\",
        "`",
        "\x00",
        "\u2028",
        "\ufeff",
        "\u200c",
    ),
    *(
        "\u200d",
        "\ufe0f",
        "\U0001f3fd",
        "\U0001f44d\U0001f3ff",
        "\U0001f926\U0001f3fc\u200d\u2642\ufe0f",
    ),
]


def _texts(how_many, seed):
    """Yield texts that put what is hard to count near the borders of parts."""
    chance = random.Random(seed)
    for _ in range(how_many):
        filler = chance.choice(["a", "é", "€", "ab c", "\U0001f600", "`", "\u0445"])
        text = list(filler * chance.randrange(170))
        rare = _BUILDING_BLOCKS if chance.random() < 0.7 else ["€", "{", "\r\n", "\f"]
        for _ in range(chance.randrange(40)):
            block = "".join(chance.choices(rare, k=chance.randrange(1, 4)))
            text.insert(chance.randrange(len(text) + 1), block)
        yield "".join(text)


@pytest.mark.crosscheck
@pytest.mark.parametrize("seed", [1, 2])
def test_twilios_own_calculator_agrees(tmp_path, seed):
    """Over thousands of texts the npm package of Twilio's counts the same parts."""
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm, "npm is not installed"
    assert node, "node is not installed"
    install = [npm, "install", "--no-audit", "--no-fund", "sms-segments-calculator@1.3.0"]
    subprocess.run([*install, "--prefix", str(tmp_path)], check=True, capture_output=True)
    texts = list(_texts(3000, seed))
    package = tmp_path / "node_modules" / "sms-segments-calculator"
    ran = subprocess.run(
        [node, "-e", _CALCULATOR, str(package)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(ran.stdout)
    wrong = [
        (ascii(text), their, ours)
        for text, their in zip(texts, theirs, strict=True)
        if tuple(their) != (ours := sms_segments.count(text))
    ]

    assert wrong == []
    assert {encoding for encoding, _ in theirs} == {"GSM-7", "UCS-2"}
    assert len({parts for _, parts in theirs}) > 8
