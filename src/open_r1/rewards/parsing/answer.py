"""The only place that reads model text. Here: tags, option letters, yes or no, numbers; beside it, one file a kind:
boxes, detections, polygons, spelled letters, areas, words, an endpoint's replies.

Rewards and evals read with the same functions. All of them take time linear in the text, whatever the text.
"""

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

LETTERS = "ABCDEFGHIJ"
MAX_NUMBER_CHARS = 400  # int() of longer digit strings is quadratic, and no answer is that long

_PUNCTUATION = re.compile(r"[.,;:!?\"'`*_(){}\[\]“”‘’。，；：！？]|[-–—](?!\d)")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_MARKS = re.compile(r"([^\w\s\x00-\x7f]{30})(?=[^\w\s\x00-\x7f])")  # combining marks are neither words nor space
_JOINER = "\u034f"  # invisible


def extract_answer(completion: str) -> str | None:
    """Content of the last complete `<answer>...</answer>`, stripped; None without one.

    >>> extract_answer("<answer>1</answer> no: <answer> 2 </answer> <answer>3")
    '2'
    """
    start = completion.rfind("<answer>", 0, max(completion.rfind("</answer>"), 0))
    if start < 0:
        return None
    start += len("<answer>")
    return completion[start : completion.find("</answer>", start)].strip()


def final_text(completion: str) -> str:
    """What a completion answers: its last `<answer>`; without one, what follows the thinking, else the whole text.

    Where the last `<think>` or `<answer>` was opened and never closed the model has not answered (it was cut off): "".

    >>> final_text("<think>7?</think> It is 8."), final_text("8"), final_text("<think>8, or"), final_text("<answer>1")
    ('It is 8.', '8', '', '')
    """
    answer = extract_answer(completion)
    if answer is not None:
        return answer
    rest = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    return "" if "<think>" in rest or "<answer>" in rest else rest.strip()


def thought(completion: str) -> str:
    """What follows the first `<think>`, up to `</think>` or, where it was cut off, to the end; "" without one.

    >>> thought("<think> 2 + 1 </think><answer>3</answer>"), thought("<think>2 +"), thought("3")
    ('2 + 1', '2 +', '')
    """
    return completion.partition("<think>")[2].partition("</think>")[0].strip()


def has_think_format(completion: str) -> bool:
    """Exactly one `<think>...</think>`, then one `<answer>...</answer>` that is not blank; else only whitespace.

    >>> has_think_format("<think>a</think>\\n<answer>b</answer>\\n"), has_think_format("<think>a</think> <answer>b")
    (True, False)
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return False
    thought, _, rest = completion.strip().partition("</think>")
    return thought.startswith("<think>") and _is_answer_only(rest.strip())


def has_answer_format(completion: str) -> bool:
    """Exactly one non-blank `<answer>...</answer>` and nothing else but whitespace: the format of direct answers.

    >>> has_answer_format(" <answer>b</answer>\\n"), has_answer_format("b"), has_answer_format("<answer></answer>")
    (True, False, False)
    """
    once = completion.count("<answer>") == completion.count("</answer>") == 1
    return once and "think>" not in completion and _is_answer_only(completion.strip())


def _is_answer_only(text: str) -> bool:
    inside = text.removeprefix("<answer>").removesuffix("</answer>")
    return len(text) - len(inside) == len("<answer></answer>") and bool(inside.strip())


def normalize(text: str) -> str:
    """Words as they compare: case folded, sentence punctuation dropped (not a minus, nor `+ # / %`), spaces single.

    >>> normalize(" The  Kick-Stand. "), normalize("C++"), normalize("-3 points")
    ('the kick stand', 'c++', '-3 points')
    """
    return " ".join(_PUNCTUATION.sub(" ", folded(text)).split())


def folded(text: str) -> str:
    """One spelling of each letter (NFC), case folded, the minus sign as "-".

    Putting marks on one letter in order takes time quadratic in their number, so they are kept in order by thirties,
    as in Unicode's Stream-Safe Text Format (UAX 15); no script needs as many.

    >>> folded("Cafe\\u0301 −3") == "caf\\u00e9 -3"
    True
    """
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFC", _MARKS.sub(rf"\1{_JOINER}", text)).replace(_JOINER, "")
    return composed.replace("−", "-").casefold()


def without_markup(text: str) -> str:
    """Without Markdown emphasis, `$`, quotes, `\\boxed{}` and `\\text{}` around all of it, and without a final period.

    >>> without_markup("**B**."), without_markup(r"$\\boxed{\\text{12}}$"), without_markup("$1$ or $2$")
    ('B', '12', '$1$ or $2$')
    """
    text = _unquoted(text.strip().removesuffix("."))
    for opening in (r"\boxed{", r"\text{", r"\mathrm{"):
        inside = text[len(opening) : -1]
        # "\boxed{1}, \boxed{2}" also begins and ends so, but closes a brace before it opens one
        if text.startswith(opening) and text.endswith("}") and _closes_last(inside):
            text = _unquoted(inside)
    return text


def _unquoted(text: str) -> str:
    text = text.strip("*`\"' \t\r\n")
    inside = text.strip("$").strip()
    return text if "$" in inside else inside


def _closes_last(inside: str) -> bool:
    return "}" not in inside or 0 <= inside.find("{") < inside.find("}")


_ALONE = re.compile(r"[(\[]?([A-Ja-j])[)\]]?[.:,)]?")
_LABEL = re.compile(r"[(\[]?([A-J])(?:[)\]][.:]?|\s?[.:、．：])(?=\s|\*|$)|[(\[]([A-J])[)\]]")
_STATED = re.compile(
    r"(?i:answer|option|choice|choose|pick|select|答案|选)[\s*]{0,9}(?i:is|be|are|:|：|是)?(?:[\s:：*$]|\\boxed\{|\\text\{){0,9}"
    r"[(\[]?([A-Ja-j])\b(?=[)\]*.:,;}\s]{0,20}(?:$|\n|[)\]*.:,;}]))"
)
# "A" and "I" are also words: "answer is A because" stays unread, "answer is C because" does not.
_STATED_LETTER = re.compile(r"(?i:answer|option|choice)\s{1,9}(?i:is|:)?\s{0,9}([B-HJ])\b(?!')")


def parse_option(text: str, options: Sequence[str] | None = None) -> str | None:
    """The option letter A to J that an answer chooses; None where it chooses none or several.

    Read in this order: the letter alone; an option's own text; "the answer is (B)"; a single label as in "B. 12 cm".
    With `options` a letter beyond them, or one followed by another option's text, is no choice.

    >>> parse_option("(B)"), parse_option("The answer is C."), parse_option("A. 7 or B. 6"), parse_option("A cat sits")
    ('B', 'C', None, None)
    >>> parse_option("12 cm", ["9 cm", "12 cm"]), parse_option("A. 12 cm", ["9 cm", "12 cm"])
    ('B', None)
    """
    text = without_markup(text[-4000:])
    if match := _ALONE.fullmatch(text):
        letter = match[1].upper()
    else:
        letter = _unlabelled_option(text, options) or _stated_or_labelled_option(text, options)
    return letter if letter and (not options or letter in LETTERS[: len(options)]) else None


def _unlabelled_option(text: str, options: Sequence[str] | None) -> str | None:
    return None if _LABEL.match(text) else _option_by_text(text, options)


def _option_by_text(text: str, options: Sequence[str] | None) -> str | None:
    wanted = option_key(text)
    found = [letter for letter, option in zip(LETTERS, options or (), strict=False) if option_key(option) == wanted]
    return found[0] if wanted and len(found) == 1 else None


def option_key(option: str) -> str:
    """What an option says, without its own label, as it compares: "B: 12.0 cm" and "12.0 CM" are alike.

    >>> option_key("B: 12.0 cm"), option_key("−3")
    ('12.0 cm', '-3')
    """
    label = _LABEL.match(option)
    text = without_markup(option[label.end() :] if label and label.end() < len(option) else option)
    number = parse_number(text)
    if number is not None:
        return str(number)
    return " ".join(folded(text).split())


def _stated_or_labelled_option(text: str, options: Sequence[str] | None) -> str | None:
    if stated := _STATED.findall(text) + _STATED_LETTER.findall(text):
        return _only([letter.upper() for letter in stated])
    letter = _only([first or second for first, second in _LABEL.findall(text)])
    leading = _LABEL.match(text)
    if letter and leading and options:
        said = _option_by_text(text[leading.end() :], options)
        return letter if said in (None, letter) else None
    return letter


def _only(letters: list[str]) -> str | None:
    return letters[0] if len(set(letters)) == 1 else None


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """Yes or no; None where it says neither or both. A clause that is the word alone decides: "Yes, there is no dog".

    >>> parse_yes_no("No."), parse_yes_no("I know"), parse_yes_no("Yes, there is no dog"), parse_yes_no("yes and no")
    ('no', None, 'yes', None)
    """
    plain = re.sub(r"[*_`\"'$]", "", text[-4000:]).casefold()
    clauses = [clause.split() for clause in re.split(r"[.,;:!?\n()]", plain)]
    alone = {words[0] for words in clauses if len(words) == 1} & {"yes", "no"}
    said = {word for words in clauses for word in words} & {"yes", "no"}
    edges = {word for words in clauses if words for word in (words[0], words[-1])} & {"yes", "no"}
    decided = alone or (edges if len(said) == 1 else set())
    return decided.pop() if len(decided) == 1 else None  # type: ignore[return-value]


_NUMBER = re.compile(
    r"(?P<sign>[-+−–]?)\s?(?:\\[td]?frac\{\s?(?P<top>\d+)\s?\}\{\s?(?P<bottom>\d+)\s?\}"
    r"|(?P<whole>\d{1,3}(?:[, ]\d{3})+|\d+)?(?P<decimals>\.\d*)?(?:\s?/\s?(?P<over>\d+(?:\.\d+)?))?)"
    r"\s?(?P<percent>\\?%)?",
    re.ASCII,
)


def parse_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number: sign, thousands separators, decimals, fraction, percent (0.01).

    >>> parse_number("-1,234.50"), parse_number("3/4"), parse_number("50%")
    (Fraction(-2469, 2), Fraction(3, 4), Fraction(1, 2))
    >>> parse_number("B. 9"), parse_number("7 or 8"), parse_number("1/0")
    (None, None, None)
    """
    text = without_markup(text) if len(text) <= MAX_NUMBER_CHARS else ""
    match = _NUMBER.fullmatch(text.replace("{,}", ",").replace(r"\!", ""))
    if not match or not (match["top"] or match["whole"] or (match["decimals"] or "") > "."):
        return None
    whole = re.sub("[, ]", "", match["whole"] or "0")
    value = Fraction(match["top"] or f"{whole}{match['decimals'] or ''}")
    below = Fraction(match["bottom"] or match["over"] or 1) * (100 if match["percent"] else 1)
    if below == 0:
        return None
    return value / below * (-1 if match["sign"] in ("-", "−", "–") else 1)


def same_number(gold: str, answer: str) -> bool:
    """Both are numbers of exactly one value: 3.14 is not 3.141, and nothing equals nothing never.

    >>> same_number("1000", "1,000.0"), same_number("3.14", "3.141"), same_number("", "")
    (True, False, False)
    """
    value = parse_number(gold)
    return value is not None and value == parse_number(answer)
