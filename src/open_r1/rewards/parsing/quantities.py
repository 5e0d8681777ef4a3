"""Splits a LaTeX formula into its number and its unit of measure, in any spelling. (torch-free)"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# dimension, how many of its first unit one is, spellings
_TABLE = (
    ("length", "1", "m|米|meter|meters|metre|metres"),
    ("length", "1/1000000000", "nm|纳米|nanometers"),
    ("length", "1/1000000", "um|μm|\\mu m|微米|micrometers|microns"),
    ("length", "1/1000", "mm|毫米|millimeter|millimeters|millimetres"),
    ("length", "1/100", "cm|厘米|centimeter|centimeters|centimetres"),
    ("length", "1/10", "dm|分米|decimeter|decimeters|decimetres"),
    ("length", "1000", "km|千米|公里|kilometer|kilometers|kilometre|kilometres"),
    ("length", "1852", "nmi|海里|nautical mile|nautical miles"),
    ("length", "0.0254", "in|inch|inches|英寸"),
    ("length", "0.3048", "ft|foot|feet|英尺"),
    ("length", "0.9144", "yd|yard|yards"),
    ("length", "1609.344", "mi|mile|miles|英里"),
    ("land", "1", "hectare|hectares|公顷"),
    ("land", "0.40468564224", "acre|acres"),
    ("volume", "1", "L|l|liter|liters|litre|litres|升"),
    ("volume", "1/1000", "mL|ml|milliliter|milliliters|毫升"),
    ("time", "1", "s|sec|secs|second|seconds|秒"),
    ("time", "1/1000", "ms|millisecond|milliseconds|毫秒"),
    ("time", "60", "min|mins|minute|minutes|分钟|分"),
    ("time", "3600", "h|hr|hrs|hour|hours|小时|时"),
    ("time", "86400", "day|days|天"),
    ("time", "604800", "week|weeks|周"),
    ("month", "1", "month|months|个月|月"),
    ("month", "12", "year|years|年"),
    ("morning", "1", "am|AM|a.m.|A.M."),
    ("afternoon", "1", "pm|PM|p.m.|P.M."),
    ("mass", "1", "g|gram|grams|克"),
    ("mass", "1/1000", "mg|milligram|milligrams|毫克"),
    ("mass", "1000", "kg|kilogram|kilograms|千克|公斤"),
    ("mass", "1000000", "t|ton|tons|tonne|tonnes|吨"),
    ("pound", "1", "lb|lbs|pound|pounds|磅"),
    ("pound", "1/16", "oz|ounce|ounces"),
    ("yuan", "1", "元|yuan|RMB|块"),
    ("dollar", "1", "dollars|dollar|USD|美元"),
    ("dollar", "1/100", "cents|cent|美分"),
    ("euro", "1", "euros|euro|EUR|欧元"),
    ("angle", "1", "^\\circ|degrees|degree|deg|度"),
    ("celsius", "1", "^\\circ C|^\\circ c|degrees Celsius|摄氏度"),
    ("fahrenheit", "1", "^\\circ F|degrees Fahrenheit"),
    ("radian", "1", "rad|radian|radians|弧度"),
    ("newton", "1", "N|newton|newtons|牛|牛顿"),
    ("newton", "1000", "kN"),
    ("joule", "1", "J|joule|joules|焦|焦耳"),
    ("joule", "1000", "kJ|kilojoules|千焦"),
    ("watt", "1", "W|watt|watts|瓦"),
    ("watt", "1000", "kW|kilowatts|千瓦"),
    ("volt", "1", "V|volt|volts|伏|伏特"),
    ("ampere", "1", "amp|amps|ampere|amperes|安|安培"),
    ("ampere", "1/1000", "mA"),
    ("ohm", "1", "\\Omega|ohm|ohms|欧|欧姆"),
    ("pascal", "1", "Pa|pascals|帕"),
    ("pascal", "1000", "kPa"),
    ("hertz", "1", "Hz|hertz|赫兹"),
    ("mole", "1", "mol|moles|摩尔"),
    ("percent", "1", "%|percent|per cent|percentage|pct"),
    ("", "1", "units|unit|个|单位"),
)
_UNITS = {name: (dimension, Fraction(factor)) for dimension, factor, names in _TABLE for name in names.split("|")}
UNIT_NAMES = frozenset(_UNITS)

# These are variables as well: a unit only after a number, and for capital letters only with a space or a fraction bar.
_NAMES = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
_PART = rf"(?:{_NAMES})(?![a-zA-Z])"
_EXPONENT = r"(?:\s?\^\s?\{?\s?(?P<%s>-?[1-3])\s?\}?|(?P<%s>[23])(?!\d))?"
_UNIT = re.compile(
    rf"(?P<space>\s{{0,2}})[(\[]?(?P<power>(?:square|sq\.?|cubic|cu\.?)\s|平方|立方)?(?P<unit>{_PART})"
    + _EXPONENT % ("exponent", "digit")
    + rf"(?:\s?(?P<per>/|per\s|every\s|每)\s?(?P<under>{_PART})"
    + _EXPONENT % ("under_exponent", "under_digit")
    + r")?(?P<name>\s(?:squared|cubed))?[)\]]?\s?$"
)
_ENDS_IN_VALUE = re.compile(r"(?:[\d})\]]|\\pi|\\infty|(?<![a-zA-Z])[a-zA-Z])$")
_KNOWN_COMMAND = re.compile(r"\\(?:sqrt|frac|pi|times|cdot|infty)(?![a-z])")
_GROUP = re.compile(r"[({][^(){}a-zA-Z]{0,200}[)}]")
_POWERS = {
    "square": 2,
    "sq": 2,
    "sq.": 2,
    "平方": 2,
    "cubic": 3,
    "cu": 3,
    "cu.": 3,
    "立方": 3,
    "squared": 2,
    "cubed": 3,
}
_CURRENCY = re.compile(r"^(-?)\s?(?:US)?\$\s?(?=\d)")
_NOUNS = re.compile(r"(?<=[\d})\]])\s?(?:[\u4e00-\u9fff]{1,8}|\s[a-z]{2,20}(?:\s[a-z]{1,20}){0,3})$")
_JOINS = re.compile(r"\b(?:or|and|not|to|but|if|mod)\b")
MAX_UNIT_CHARS = 60


@dataclass(frozen=True)
class Unit:
    """A unit of measure: its dimensions with their powers, and its factor to their first units."""

    dimensions: tuple[tuple[str, int], ...] = ()
    factor: Fraction = Fraction(1)


NO_UNIT = Unit()
PERCENT = Unit((("percent", 1),))
DEGREES = Unit((("angle", 1),))
RADIANS = Unit((("radian", 1),))


def split_unit(text: str) -> tuple[str, Unit]:
    r"""A formula in `to_latex`'s spelling as (its value, its unit); NO_UNIT without one, and for counted nouns.

    >>> split_unit("9 平方米")
    ('9', Unit(dimensions=(('length', 2),), factor=Fraction(1, 1)))
    >>> split_unit("15 cm ^2")[1] == split_unit("15 square centimeters")[1], split_unit("5x")[1] == NO_UNIT
    (True, True)
    >>> split_unit("m")[0], split_unit("12 red apples")[0], split_unit(r"3\pi km/h")[0]
    ('m', '12', '3\\pi')
    """
    match = _UNIT.search(text, max(len(text) - MAX_UNIT_CHARS, 0))
    body = text[: match.start()].strip() if match else ""
    if match and _ENDS_IN_VALUE.search(body) and not _is_variable(match, body):
        return body, _unit_of(match)
    if currency := _CURRENCY.match(text):
        return currency[1] + text[currency.end() :], _known("dollar", 1)
    nouns = _NOUNS.search(text, max(len(text) - MAX_UNIT_CHARS, 0))
    if nouns and not _JOINS.search(nouns[0]):
        return text[: nouns.start()].strip(), NO_UNIT
    return text, NO_UNIT


def _is_variable(match: re.Match[str], body: str) -> bool:
    """Whether a name of letters is a variable: in "3V", "5xm", "1+2m", "x/2m"; not in "3 V", "9m", "3\\pi m"."""
    name = match["unit"]
    if not (name.isascii() and name.isalpha()) or match["under"]:
        return False
    if len(name) > 1:
        return not match["space"] and body[-1].isalpha() and "\\" not in body[-4:]
    return not _is_one_number(body) or (name.isupper() and not match["space"])


def _is_one_number(text: str) -> bool:
    """Whether a text is a product of numbers, roots, fractions and pi, without variables, sums and quotients."""
    for pattern in (_KNOWN_COMMAND, _GROUP, _GROUP, _GROUP):
        text = pattern.sub("", text)
    return re.fullmatch(r"[-+]?[\d.,\s%^]*", text) is not None


def _unit_of(match: re.Match[str]) -> Unit:
    power = int(match["exponent"] or match["digit"] or 0) or _POWERS.get((match["power"] or "").strip(), 0)
    unit = _known(match["unit"], power or _POWERS.get((match["name"] or "").strip(), 1))
    if not match["under"]:
        return unit
    under = _known(match["under"], -int(match["under_exponent"] or match["under_digit"] or 1))
    return Unit(unit.dimensions + under.dimensions, unit.factor * under.factor)


@lru_cache(maxsize=512)
def _known(name: str, power: int) -> Unit:
    dimension, factor = _UNITS[name]
    if dimension == "volume":  # a liter is a cube of 10 cm
        return Unit((("length", 3 * power),), (factor / 1000) ** power)
    if dimension == "land":
        return Unit((("length", 2 * power),), (factor * 10_000) ** power)
    return Unit(((dimension, power),), factor**power) if dimension else NO_UNIT
