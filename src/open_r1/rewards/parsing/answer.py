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
