"""Reads numbers in words: English up to 999, Chinese up to 99,999,999. (torch-free)"""

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


_HAN_DIGITS = {char: str(value) for value, char in enumerate("零一二三四五六七八九")} | {"两": "2", "〇": "0"}
_HAN_TENS = {"十": 10, "百": 100, "千": 1000}
_HAN = r"[零〇一二两三四五六七八九十百千万]{1,12}"
_HAN_NUMBER = re.compile(rf"(负)?(?:(百分之)|({_HAN})分之)?({_HAN})(?:点([零〇一二三四五六七八九]{{1,12}}))?")


def han_numbers_in_digits(text: str) -> str:
    """A text whose Chinese numbers stand in digits.

    >>> [han_numbers_in_digits(text) for text in ("十二个", "一百四十度", "三分之一", "百分之五", "负三点五")]
    ['12个', '140度', '1/3', '5%', '-3.5']
    """
    return text if text.isascii() else _HAN_NUMBER.sub(_han_in_digits, text)


def _han_in_digits(match: re.Match[str]) -> str:
    sign, percent, below, above, decimals = match.groups()
    number = str(_han_value(above)) + ("." + "".join(_HAN_DIGITS[char] for char in decimals) if decimals else "")
    fraction = f"{number}/{_han_value(below)}" if below else number
    return ("-" if sign else "") + fraction + ("%" if percent else "")


def _han_value(text: str) -> int:
    """The value of Chinese digits with their tens: 十二 is 12, 一二三 is 123."""
    if all(char in _HAN_DIGITS for char in text):
        return int("".join(_HAN_DIGITS[char] for char in text))
    total, group, digit = 0, 0, 0
    for char in text:
        if char in _HAN_DIGITS:
            digit = int(_HAN_DIGITS[char])
        elif char in _HAN_TENS:
            group, digit = group + (digit or 1) * _HAN_TENS[char], 0
        else:  # ten thousands
            total, group, digit = (group + digit) * 10_000, 0, 0
    return total + group + digit
