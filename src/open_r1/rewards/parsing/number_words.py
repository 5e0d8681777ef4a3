"""Reads English numbers in words, up to nine hundred ninety-nine. (torch-free)"""

import re

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
_VALUES = {word: number for number, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())}
_VALUES |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_WORD = rf"(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))})"
_NUMBER = re.compile(rf"\b(?:(?:one |a )?half|(?:negative |minus )?{_WORD}(?:[- ]{_WORD}){{0,3}})\b", re.IGNORECASE)


def number_words(text: str) -> list[re.Match[str]]:
    """The places of a text's numbers in words; "one" alone is a pronoun as well.

    >>> [match[0] for match in number_words("Twenty-one of two hundred birds, or minus three")]
    ['Twenty-one', 'two hundred', 'minus three']
    """
    return list(_NUMBER.finditer(text))


def number_of_words(words: str) -> str:
    """The number that words say, in digits.

    >>> [number_of_words(words) for words in ("twenty-one", "Two hundred five", "minus three", "one half")]
    ['21', '205', '-3', '1/2']
    """
    words = words.lower()
    if "half" in words:
        return "1/2"
    total = 0
    for word in re.findall("[a-z]+", words):
        value = _VALUES.get(word, 0)
        total = (total or 1) * 100 if value == 100 else total + value
    return f"-{total}" if words.startswith(("negative", "minus")) else str(total)
