"""Extracts the answer from a completion: the tags, the format, the final text, and texts made comparable. (torch-free)

Only this folder reads model text, one file for each kind: options, numbers, boxes, detections, polygons, areas,
decoded messages, units; `open_r1.endpoint.replies` reads an endpoint's. Rewards and evaluations use the same
functions. All of them take time linear in the text.
"""

import re
import unicodedata

_PUNCTUATION = re.compile(r"[.,;:!?\"'`*_(){}\[\]“”‘’。，；：！？]|[-–—](?!\d)")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_MARKS = re.compile(r"([^\w\s\x00-\x7f]{30})(?=[^\w\s\x00-\x7f])")  # combining marks are neither words nor space
_JOINER = "\u034f"  # an invisible character between groups of marks


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


def with_answer(completion: str, answer: str) -> str:
    """A completion with another text in its last complete `<answer>...</answer>`, which it has.

    >>> with_answer("<think>a</think><answer>1</answer>", "2")
    '<think>a</think><answer>2</answer>'
    """
    start = completion.rfind("<answer>", 0, completion.rfind("</answer>")) + len("<answer>")
    return completion[:start] + answer + completion[completion.find("</answer>", start) :]


def final_text(completion: str) -> str:
    """The answer text of a completion: its last `<answer>`; without one, the text after the thinking, else all of it.

    "" where the last `<think>` or `<answer>` is never closed: the completion was cut off before its answer. A closing
    `</answer>` that nothing opened ends the text.

    >>> final_text("<think>7?</think> It is 8."), final_text("8"), final_text("<think>8, or"), final_text("<answer>1")
    ('It is 8.', '8', '', '')
    >>> final_text("8\\n</answer>")
    '8'
    """
    answer = extract_answer(completion)
    if answer is not None:
        return answer
    rest = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    return "" if "<think>" in rest or "<answer>" in rest else rest.partition("</answer>")[0].strip()


def thinking_text(completion: str) -> str:
    """The text after the first `<think>`, up to `</think>` or to the end of a cut completion; "" without one.

    >>> thinking_text("<think> 2 + 1 </think><answer>3</answer>"), thinking_text("<think>2 +"), thinking_text("3")
    ('2 + 1', '2 +', '')
    """
    return completion.partition("<think>")[2].partition("</think>")[0].strip()


def has_think_format(completion: str) -> bool:
    """Whether a text is one `<think>...</think>`, then one `<answer>...</answer>` that is not blank, and whitespace.

    >>> has_think_format("<think>a</think>\\n<answer>b</answer>\\n"), has_think_format("<think>a</think> <answer>b")
    (True, False)
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return False
    thinking, _, rest = completion.strip().partition("</think>")
    return thinking.startswith("<think>") and _is_answer_only(rest.strip())


def has_answer_format(completion: str) -> bool:
    """Whether a text is one non-blank `<answer>...</answer>` and whitespace: the format of direct answers.

    >>> has_answer_format(" <answer>b</answer>\\n"), has_answer_format("b"), has_answer_format("<answer></answer>")
    (True, False, False)
    """
    once = completion.count("<answer>") == completion.count("</answer>") == 1
    return once and "think>" not in completion and _is_answer_only(completion.strip())


def _is_answer_only(text: str) -> bool:
    inside = text.removeprefix("<answer>").removesuffix("</answer>")
    return len(text) - len(inside) == len("<answer></answer>") and bool(inside.strip())


def normalize(text: str) -> str:
    """A text for comparing words: case folded, sentence punctuation dropped (not a minus, nor `+ # / %`), spaces
    single.

    >>> normalize(" The  Kick-Stand. "), normalize("C++"), normalize("-3 points")
    ('the kick stand', 'c++', '-3 points')
    """
    return " ".join(_PUNCTUATION.sub(" ", fold_case(text)).split())


def fold_case(text: str) -> str:
    """A text with one spelling of each letter (NFC), case folded, the minus sign as "-".

    >>> fold_case("Cafe\\u0301 −3") == "caf\\u00e9 -3"
    True
    """
    return text.lower() if text.isascii() else compose(text).replace("−", "-").casefold()


def compose(text: str) -> str:
    """A text with one spelling of each letter (NFC).

    NFC sorts the marks of one letter in quadratic time, so marks are split into groups of thirty, as in Unicode's
    Stream-Safe Text Format (UAX 15); no script needs more.

    >>> compose("Cafe\\u0301") == "Caf\\u00e9"
    True
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _MARKS.sub(rf"\1{_JOINER}", text)).replace(_JOINER, "")


def without_markup(text: str) -> str:
    """A text without Markdown emphasis, `$`, quotes, `\\boxed{}` and `\\text{}` around all of it, and without a final
    period.

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
