"""Splits model text into units: words, or single characters in scripts without spaces between words."""

import re
from itertools import islice

# Thai, Lao, Burmese, Khmer; kana; Han with its extensions. Korean separates its words.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SPACELESS += "\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]+")
_STATEMENT = re.compile(rf"\{{[^{{}}]{{1,400}}\}}|[{_SPACELESS}{{]|[^\s{_SPACELESS}{{]+")


def count_units(text: str, limit: int) -> int:
    """The number of words and spaceless characters, counted up to `limit`.

    >>> count_units("Two red cats.", 100), count_units("两只猫 cats", 100), count_units("a " * 500, 100)
    (3, 4, 100)
    """
    return sum(1 for _ in islice(_UNIT.finditer(text), limit))


def repetition_units(text: str) -> list[str]:
    """The units of a text for counting repetitions, in lower case; a JSON object is one unit.

    >>> repetition_units('The Cat: [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]')
    ['the', 'cat:', '[', '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}', ']']
    """
    return _STATEMENT.findall(text.lower())
