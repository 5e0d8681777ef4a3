"""The structure of a formula: atoms, tuples, sets, intervals, and lists of alternatives. (torch-free)"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.quantities import NO_UNIT, Unit, split_unit

_OPENING, _CLOSING = "([{", ")]}"
_SEPARATOR = re.compile(
    r"\s?(?:(?:,|;)?\s?(?<![a-zA-Z\\])(?:and|or|und|oder)(?![a-zA-Z])|[,;]|\\(?:lor|vee|land)(?![a-z])|或者?|和|及|且)\s?"
)
_SET_BUILDER = re.compile(r"\\?\{\s?[a-z]\s?(?:\||\\mid|:|\\in\s?\\mathbb\{R\}\s?[|:])\s?([^{}|]{3,200}?)\s?\\?\}")
_MORE = re.compile(r"(\d[\d.]{0,20}\s?[^\d]{1,20}?)\s?(?:and\s)?(\d{1,9}(?:\.\d{1,9})?)")
_SEMICOLON = re.compile(";")
_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\d,.])\d{1,3}(?:,\d{3})+(?=,\s)")  # thousands
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_NAME = re.compile(
    r"(?:\\?(?:angle|triangle|frac|Delta|overline|vec|odot|odot|alpha|beta|gamma|theta|lambda|mu|rho|sigma|phi|omega)"
    r"|[a-zA-Z]|_\{?\w{1,20}\}?|[(){}',:\s]|\\[a-z]{2,9}\s?\([a-z]\)|\^\\(?:circ|prime)){1,40}?"
)
_EQUALS = re.compile(r"(?<![<>!\\=])=(?!=)|\\equiv(?![a-z])")
_IN = re.compile(r"^[a-zA-Z](?:_\{?\w\}?)?\s?\\in(?![a-z])\s?")
_APPROXIMATELY = re.compile(r"\\approx(?![a-z])|\\simeq|\\doteq")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z])")
MAX_ITEMS = 40
MAX_NESTING = 20  # of brackets


@dataclass(frozen=True)
class Atom:
    """An expression or relation without commas, in LaTeX: `name = text unit`, approximately `rounded`."""

    text: str
    unit: Unit = NO_UNIT
    name: str = ""
    rounded: str = ""


@dataclass(frozen=True)
class Items:
    """Values between two brackets ("" for none): a tuple, interval, set or list; `name` as of an Atom."""

    opening: str
    closing: str
    values: tuple["Value", ...]
    name: str = ""


Value = Atom | Items


def read_value(latex: str) -> Value | None:
    r"""The structure of a formula in `to_latex`'s spelling; None for a blank one.

    None as well for one of more than MAX_ITEMS items, or of more than MAX_NESTING brackets in each other.

    >>> read_value("3, 4 or 5").values
    (Atom(text='3', ...), Atom(text='4', ...), Atom(text='5', ...))
    >>> read_value("x = (1, 2]"), read_value("1,234").text, read_value(r"3 \pm 1").values[0].text
    (Items(opening='(', closing=']', values=(...), name='x'), '1,234', '3 + 1')
    """
    latex = latex.strip().rstrip(".,;:").strip()
    if builder := _SET_BUILDER.fullmatch(latex):
        latex = builder[1]
    if not latex or _nesting(latex) > MAX_NESTING:
        return None
    groups = _split(latex, _SEMICOLON) if latex.count(";") < MAX_ITEMS else [latex]
    if len(groups) > 1 and any(len(_parts(group)) > 1 for group in groups):  # "p=5,q=2; p=7,q=2": two pairs
        values = tuple(_group(group) for group in groups if group.strip())
        return Items("", "", values)
    parts = _parts(latex)
    if len(parts) > MAX_ITEMS:
        return None
    values = _all_values(parts)
    return (values[0] if len(values) == 1 else Items("", "", values)) if values else None


def _nesting(text: str) -> int:
    """How deep the brackets of a text stand in each other."""
    return max(accumulate((char in _OPENING) - (char in _CLOSING) for char in text))


def _all_values(parts: list[str]) -> tuple[Value, ...]:
    return tuple(value for part in parts for value in _values(part))


def _group(text: str) -> Value:
    values = _all_values(_parts(text))
    return Items("(", ")", values) if len(values) != 1 else values[0]


def _values(part: str) -> list[Value]:
    """The value of one part; two for a plus-minus sign."""
    part = part.strip().rstrip(".").strip()
    if not part:
        return []
    if _PLUS_MINUS.search(part):
        upper = _PLUS_MINUS.sub(lambda match: "+" if match[1] == "pm" else "-", part)
        lower = _PLUS_MINUS.sub(lambda match: "-" if match[1] == "pm" else "+", part)
        return [_value(upper), _value(lower)]
    return [_value(part)]


def _value(text: str) -> Value:
    exact, *rounded = (side.strip() for side in _APPROXIMATELY.split(text))
    if rounded and (not exact or _is_name(exact)):  # x ~ 3
        name, text, rounded = exact, rounded[-1], []
    else:
        name, text = _named(exact)
    if inside := _enclosed(text):
        opening, closing, content = inside
        parts = _parts(content)
        if opening == "{" or len(parts) > 1:
            return Items(opening, closing, _all_values(parts), name)
        if opening == "(" and closing == ")":
            return replace(_value(content), name=name) if name else _value(content)
    body, unit = _summed(*split_unit(text))
    return Atom(body, unit, name, split_unit(rounded[-1])[0] if rounded else "")


def _summed(body: str, unit: Unit) -> tuple[str, Unit]:
    """ "1 hour 30" minutes in one unit."""
    match = _MORE.fullmatch(body) if unit != NO_UNIT else None
    first, larger = split_unit(match[1]) if match else ("", NO_UNIT)
    number = parse_number(first)
    if not match or number is None or larger.dimensions != unit.dimensions:
        return body, unit
    total = number * larger.factor / unit.factor + Fraction(match[2])
    return f"{total.numerator}/{total.denominator}" if total.denominator > 1 else str(total), unit


def _named(text: str) -> tuple[str, str]:
    """(name, value) of "x = value", "x = ... = value", "x in value"; ("", text) of all others."""
    if match := _IN.match(text):
        return text[0], text[match.end() :]
    sides = [side.strip() for side in _split(text, _EQUALS)]
    if len(sides) == 1 or not all(sides) or re.search(r"[<>]|\\(?:le|ge|ne)(?![a-z])", text):
        return "", text
    if _is_name(sides[0]):
        return "".join(sides[0].split()), sides[-1]
    if len(sides) == 2 and _is_name(sides[1]):
        return "".join(sides[1].split()), sides[0]
    return "", text


def _is_name(text: str) -> bool:
    return len(text) <= 60 and bool(_NAME.fullmatch(text)) and bool(re.search("[a-zA-Z]", text))


def _enclosed(text: str) -> tuple[str, str, str] | None:
    r"""(opening, closing, content) where the first bracket's partner is the last character."""
    start, end = (2, -2) if text.startswith(r"\{") and text.endswith(r"\}") else (1, -1)
    if len(text) < 2 or (start == 1 and (text[0] not in _OPENING or text[-1] not in _CLOSING)):
        return None
    depth, last = 0, len(text) - 1
    for place, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0 and start - 1 <= place < last:
            return None
    opening = "{" if start == 2 else text[0]
    if opening == "{" and start == 1:
        return "", "", text[1:-1]
    return opening, "}" if start == 2 else text[-1], text[start:end]


def _parts(text: str) -> list[str]:
    """The parts of a list outside of brackets; "1,234" is one."""
    return _split(text, _SEPARATOR)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that stand outside of brackets; the blank ones are left out."""
    depths, depth = [], 0
    for char in text:
        depth += (char in _OPENING) - (char in _CLOSING)
        depths.append(depth + (char in _CLOSING))
    in_numbers = {place for match in _GROUPED.finditer(text) for place in range(*match.span())}
    parts, start = [], 0
    for match in separator.finditer(text):
        if depths[match.start()] > 0 or match.start() in in_numbers:
            continue
        parts.append(text[start : match.start()])
        start = match.end()
    parts = [part for part in [*parts, text[start:]] if part.strip()]
    return parts or [text]


def latex_of(value: Value) -> str:
    """The LaTeX of a value, with its name and without its units."""
    if isinstance(value, Atom):
        text = value.text
    else:
        brackets = {"{": r"\{", "}": r"\}"}
        inside = ", ".join(map(latex_of, value.values))
        text = brackets.get(value.opening, value.opening) + inside + brackets.get(value.closing, value.closing)
    return f"{value.name} = {text}" if value.name else text


def as_list(atom: Atom) -> Items | None:
    """ "100,200" as a list of two numbers; None for any other atom."""
    parts = atom.text.split(",")
    is_list = len(parts) > 1 and all(part.isdigit() for part in parts)
    return Items("", "", tuple(Atom(part, atom.unit) for part in parts), atom.name) if is_list else None


def decimal_comma(text: str) -> str | None:
    """ "1,22" with a point; None for any other text."""
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else None
