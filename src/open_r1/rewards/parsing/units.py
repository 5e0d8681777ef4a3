"""Model text as a sequence of units: words, and single characters of scripts that put no spaces between words."""

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


def statements(text: str) -> list[str]:
    """What can be said again: words and spaceless characters in lower case; a JSON object is one, whatever it holds.

    >>> statements('The Cat: [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]')
    ['the', 'cat:', '[', '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}', ']']
    """
    return _STATEMENT.findall(text.lower())
