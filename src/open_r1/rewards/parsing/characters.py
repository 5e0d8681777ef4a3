"""Full-width, CJK and decorated characters as their plain ones. (torch-free)"""

import re
import unicodedata
from functools import lru_cache

_FOREIGN = re.compile(r"[^\x00-\x7f\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]")  # but for CJK letters, which stay
_MARKS = {
    "。": ".",
    "｡": ".",
    "、": ",",
    "､": ",",
    "−": "-",
    "﹣": "-",
    "‐": "-",
    "‑": "-",
    "ℝ": "ℝ",
    **dict.fromkeys("【〔〖〚", "["),
    **dict.fromkeys("】〕〗〛", "]"),
    **dict.fromkeys("〈《", "<"),
    **dict.fromkeys("〉》", ">"),
    **dict.fromkeys("「」『』“”„‟", '"'),
    **dict.fromkeys("‘’‚‛", "'"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),  # without width
}
_STYLES = (
    "<wide>",
    "<narrow>",
    "<font>",
    "<circle>",
    "<small>",
    "<square>",
    "<noBreak>",
)  # not <super>, <sub>, <fraction>


def plain_characters(text: str) -> str:
    """A text with the ASCII form of every character that is one in another style.

    Full-width and small forms, CJK brackets, quotes and stops, mathematical and circled letters, the digits of any
    script, any space that does not break a line, hyphens and the minus sign; characters without width are dropped.
    Superscripts, fractions, dashes and letters of other scripts stay.

    >>> plain_characters("（Ｂ）"), plain_characters("【３，４】。"), plain_characters("５０％²")
    ('(B)', '[3,4].', '50%²')
    >>> plain_characters("Ⓑ 𝟑 ٣ 答案：“7”")
    'B 3 3 答案:"7"'
    """
    return text if text.isascii() else _FOREIGN.sub(lambda match: _plain(match[0]), text)


@lru_cache(maxsize=4_096)
def _plain(char: str) -> str:
    """The ASCII form of one character, or itself."""
    if char in _MARKS:
        return _MARKS[char]
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Zs":
        return " "
    folded = unicodedata.normalize("NFKC", char) if unicodedata.decomposition(char).startswith(_STYLES) else char
    return folded if folded.isascii() or len(folded) == 1 else char
