"""Reads English numbers in words, up to nine hundred ninety-nine. (torch-free)"""

import re

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
_VALUES = {word: number for number, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())}
_VALUES |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_WORD = rf"(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))})"
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PART = re.compile(rf"(?:({_WORD}|a)[- ])?({'|'.join(_PARTS)}|halve)s?")
_NUMBER = re.compile(rf"\b(?:{_PART.pattern}|(?:negative |minus )?{_WORD}(?:[- ]{_WORD}){{0,3}})\b", re.IGNORECASE)


def number_words(text: str) -> list[re.Match[str]]:
    """The places of a text's numbers in words; "one" alone is a pronoun as well.

    >>> [match[0] for match in number_words("Twenty-one of two hundred birds, or minus three")]
    ['Twenty-one', 'two hundred', 'minus three']
    """
    return list(_NUMBER.finditer(text))


def number_of_words(words: str) -> str:
    """The number that words say, in digits.

    >>> [number_of_words(words) for words in ("twenty-one", "Two hundred five", "minus three", "three quarters")]
    ['21', '205', '-3', '3/4']
    """
    words = words.lower()
    if part := _PART.fullmatch(words):
        return f"{_VALUES.get(part[1], 1)}/{_PARTS.get(part[2], 2)}"
    total = 0
    for word in re.findall("[a-z]+", words):
        value = _VALUES.get(word, 0)
        total = (total or 1) * 100 if value == 100 else total + value
    return f"-{total}" if words.startswith(("negative", "minus")) else str(total)
