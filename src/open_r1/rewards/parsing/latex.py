"""Writes a formula of any notation, Unicode, plain text or LaTeX, in one spelling of LaTeX. (torch-free)"""

import re
import unicodedata
from fractions import Fraction

from open_r1.rewards.parsing.characters import plain_characters

FACTORIAL = "\uf8f0"  # a "!" that ends no sentence

_SYMBOLS = {
    FACTORIAL: "!",
    "π": r"\pi ",
    "θ": r"\theta ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "δ": r"\delta ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "µ": r"\mu ",
    "ρ": r"\rho ",
    "σ": r"\sigma ",
    "φ": r"\phi ",
    "ω": r"\omega ",
    "Δ": r"\Delta ",
    "Ω": r"\Omega ",
    "×": r"\times ",
    "÷": r"\div ",
    "∙": r"\cdot ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "–": "-",
    "∶": ":",
    "⁄": "/",
    "∕": "/",
    "°": r"^\circ ",
    "º": r"^\circ ",
    "˚": r"^\circ ",
    "′": "'",
    "℃": r"^\circ C",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≦": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≧": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≃": r"\approx ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "且": " and ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "∥": r"\parallel ",
    "⊥": r"\perp ",
    "≅": r"\cong ",
    "∽": r"\sim ",
    "∼": r"\sim ",
    "∉": r"\notin ",
    "⊆": r"\subseteq ",
    "⊂": r"\subset ",
    "ℝ": r"\mathbb{R}",
    "∛": r"\sqrt[3]",
    "£": "",
    "€": "",
    "¥": "",
    "￥": "",
}
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ]{1,20}")
_SUBSCRIPT = re.compile(r"[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]{1,20}")
_FRACTION = re.compile(r"[¼½¾⅐-⅞↉]")
_ROOT = re.compile(r"√\s?(?=[{(])|√\s?(\d+(?:\.\d+)?|[a-zA-Z]|\\[a-z]{1,9})")


def _rational_power(exponent: str) -> str:
    power = Fraction(exponent)
    return rf"^{{\frac{{{power.numerator}}}{{{power.denominator}}}}}"


_POWERS = {"thousand": 3, "million": 6, "billion": 9, "万": 4, "亿": 8}
_STYLE = re.compile(
    r"\\(?:text(?:bf|rm|it|normal|tt|sf)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|operatorname|bold|boldsymbol)\*?\s?"
    r"\{((?:[^{}]|\{[^{}]{0,100}\}){0,400})\}"
)
_NOTHING = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|rm|bf|it)(?![a-zA-Z])\.?|\\!\s?|\\\$"
    r"|\\(?:phantom|color|textcolor)\{[^{}]{0,40}\}|\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![a-z])"
)
_SPACE = re.compile(r"(?<!\\)\\[,;: ]|\\q?quad|(?<!\\)~|\\\n|\s{2,}")
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\(leq|geq)(?:slant)?(?![a-z])"), lambda m: f"\\{m[1][:2]}"),
    (re.compile(r"\\(le|ge)slant(?![a-z])"), r"\\\1"),
    (re.compile(r"\\neq(?![a-z])"), r"\\ne"),
    (re.compile(r"\\varnothing(?![a-z])"), r"\\emptyset"),
    (re.compile(r"\\lt(?![a-z])"), "<"),
    (re.compile(r"\\gt(?![a-z])"), ">"),
    (re.compile(r"\\lbrace(?![a-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![a-z])"), r"\\}"),
    (re.compile(r"\\(?:degrees?|textdegree)(?![a-z])"), r"^\\circ "),
    (re.compile(r"\^\s?\{\s?\\circ\s?\}"), r"^\\circ "),
    (re.compile(r"\\colon(?![a-z])|\\ratio(?![a-z])"), ":"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^(\d)\^"), r"^\1"),  # Pandoc's superscript
    (re.compile(r"\\%"), "%"),
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">=|=>"), r"\\ge "),
    (re.compile(r"!=|<>|/="), r"\\ne "),
    (re.compile(r"\+\s?/?\s?-(?=\s?[\d\\a-zA-Z(])"), r"\\pm "),
    (re.compile(r"(?<=[\w)}\]])\s?\*\*\s?(?=[\w({-])"), "^"),
    (re.compile(r"(?<=\d)\s?[xX*]\s?(?=10\s?\^)"), r"\\times "),
    (re.compile(r"(?<=\d)[eE]([-+]?\d{1,3})(?![\w.])"), r"\\times 10^{\1}"),
    (re.compile(r"(?<=\d)\s?(thousand|million|billion|万|亿)(?![a-z])"), lambda m: rf"\times 10^{{{_POWERS[m[1]]}}}"),
    (re.compile(r"(?<![a-zA-Z])[Aa]ll\sreals?(?:\snumbers?)?(?![a-z])"), r"\\mathbb{R}"),
    (re.compile(r"(?<![a-zA-Z])[Nn]o\s(?:real\s)?solutions?(?:\sexists?)?(?![a-z])"), r"\\emptyset "),
    (re.compile(r"(?<=\d)\sout\sof\s(?=\d)"), "/"),
    (re.compile(r"(?<![a-zA-Z])(?:minus|negative)\s(?=\d)"), "-"),
    (re.compile(r"(?<![a-zA-Z])(?:the\s)?(?:square\s)?root\s(?:of\s)?(?=\d)|根号"), r"\\sqrt "),
    (re.compile(r"(?<=\d)\stimes\s(?=[\d\\])"), r"\\times "),
    (re.compile(r"(?<=\d)\s(squared|cubed)(?![a-z])"), lambda m: "^2" if m[1] == "squared" else "^3"),
    (
        re.compile(r"(\d{1,3})\s?\^\\circ\s?(\d{1,2})\s?'"),
        lambda m: rf"\frac{{{60 * int(m[1]) + int(m[2])}}}{{60}}^\circ ",
    ),
    (re.compile(r"\^\s?\{\s?(\d{0,3}\.\d{1,3})\s?\}|\^(\d\.\d{1,3})"), lambda m: _rational_power(m[1] or m[2])),
    (re.compile(r"\*"), r"\\cdot "),
    (re.compile(r"\^\s?([-+]?\d{2,}|[-+]\d)(?![\d.]*\.\d)"), r"^{\1}"),
    (re.compile(r"(?<![\d./^}])(\d{1,6})\s+(\d{1,6})\s?/\s?(\d{1,6})(?![\d.])"), r"\1\\frac{\2}{\3}"),
    (re.compile(r"(?<![\d.,])(\d{1,3})((?:\s\d{3}){1,6})(?![\d])"), lambda m: m[1] + "".join(m[2].split())),
)
_PLAIN_NAMES = "sin cos tan cot sec csc log ln exp pi theta alpha beta gamma infty angle arcsin arccos arctan"
_NAMES = {
    **{name: name for name in _PLAIN_NAMES.split()},
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan")},
    **dict.fromkeys(("infinity", "inf", "oo"), "infty"),
}
_NAME = re.compile(rf"(?<![\\a-zA-Z])({'|'.join(sorted(_NAMES, key=len, reverse=True))})(?![a-zA-Z])")
_BARE_COMMAND = re.compile(r"(?<![\\a-zA-Z])(?=(?:frac|sqrt)\s?[\[{])")
_CUBE_ROOT = re.compile(r"\\sqrt\[3\]\s?(\d+)")
_ROOT_NUMBER = re.compile(r"(?<![a-zA-Z])\\?sqrt\s?(\d+(?:\.\d+)?|[a-zA-Z](?![a-zA-Z]))(?!\s?[\d.])")
_CALL = re.compile(r"(?:\\?(?<![a-zA-Z])(?:sqrt|cbrt)\s?|\\sqrt\[3\]\s?|\^\s?)\(")
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s?\{?\s?(\d{1,20})\s?\}?")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^\s?\\circ(?![a-zA-Z])")
_MAX_CALLS = 20


def to_latex(text: str) -> str:
    r"""One LaTeX spelling of a formula, without delimiters and styles; single spaces.

    >>> to_latex("2sqrt(3)"), to_latex("5√{3}π"), to_latex("x >= 3"), to_latex("½"), to_latex("x²")
    ('2\\sqrt{3}', '5\\sqrt{3}\\pi', 'x \\ge 3', '\\frac{1}{2}', 'x^{2}')
    >>> to_latex(r"\left( \dfrac12,\, 3 \text{ cm}\right)"), to_latex("3 1/2"), to_latex("0.\\overline{3}")
    ('( \\frac12, 3 cm )', '3\\frac{1}{2}', '\\frac{3}{9}')
    """
    text = _symbols(plain_characters(_number_characters(text)))
    text = _SPACE.sub(" ", _NOTHING.sub("", without_styles(text)))
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    text = _BARE_COMMAND.sub(
        r"\\", _braced_calls(_ROOT_NUMBER.sub(r"\\sqrt{\1}", _CUBE_ROOT.sub(r"\\sqrt[3]{\1}", text)))
    )
    text = _NAME.sub(lambda match: f"\\{_NAMES[match[1]]} ", text)
    text = _REPEATING.sub(_repeating, text)
    if _TRIGONOMETRY.search(text):
        text = _DEGREES.sub(r"\\frac{\1\\pi}{180}", text)
    return " ".join(text.split())


def without_styles(text: str) -> str:
    r"""A text with the content of `\text{}`, `\mathbf{}` and the like in their place.

    >>> without_styles(r"\boxed{\text{about } \mathbf{9}}")
    '\\boxed{ about    9 }'
    """
    for _ in range(3):  # styles stand in styles
        text = _STYLE.sub(r" \1 ", text)
    return text


def _symbols(text: str) -> str:
    """Unicode's mathematical characters in LaTeX."""
    if text.isascii():
        return text
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1]}}}" if match[1] else r"\sqrt", text)
    return _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)


def _number_characters(text: str) -> str:
    """Superscripts, subscripts and fractions of one character in LaTeX."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{_digits(match[0])}}}", text)
    text = _SUBSCRIPT.sub(lambda match: f"_{{{_digits(match[0])}}}", text)
    return _FRACTION.sub(lambda match: rf"\frac{{{'}{'.join(_digits(match[0]).split('/'))}}}", text)


def _digits(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-").replace("⁄", "/")


def _braced_calls(text: str) -> str:
    r"""`sqrt(...)` as `\sqrt{...}`, `^(...)` as `^{...}`, the innermost last; brackets without partner stay."""
    for _ in range(_MAX_CALLS):
        match = _CALL.search(text)
        end = _partner(text, match.end()) if match else -1
        if not match or end < 0:
            break
        name = match[0]
        head = r"\sqrt[3]" if "cbrt" in name or "[3]" in name else r"\sqrt" if "sqrt" in name else "^"
        text = f"{text[: match.start()]}{head}{{{text[match.end() : end]}}}{text[end + 1 :]}"
    return text


def _partner(text: str, start: int) -> int:
    """The place of the `)` that closes the bracket before `start`; -1 without one."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return -1


def _repeating(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction: 0.1(6) is (16 - 1) / 90."""
    whole, fixed, period = match[1] or "0", match[2], match[3]
    top = int(whole + fixed + period) - int(whole + fixed)
    return rf"\frac{{{top}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"
