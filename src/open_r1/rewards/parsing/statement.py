r"""Finds the answer that a prose states: the last `\boxed{}`, "the answer is ...", "Answer: ...", 答案. (torch-free)

All of it takes time linear in the text, of which the last `MAX_CHARS` characters are read.
"""

import re
from typing import NamedTuple

from open_r1.rewards.parsing.characters import plain_characters

MAX_CHARS = 20_000  # the final statement stands at the end
_LAST_CUES = 40

_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox|framebox)\s{0,3}\{)|\\[{}]|[{}]")
_JOINT = re.compile(
    r"(?:[\s,;&+$]|\\[()\[\],;]|\\q?quad|\\text\{|\}|and|or|[和与或及]){0,20}|(?:\s?[a-z]{2,12}){1,2}\s?(?:,|and)\s"
)
_ABBREVIATION = "".join(
    rf"(?<!\b{word})" for word in ("St", "Dr", "Mr", "No", "vs", r"i\.e", r"e\.g", "ca", "sq", "cu")
)
_ABBREVIATION += r"(?<!approx)(?<!\b[A-Z])"
_END = re.compile(rf"\n|[!?](?=\s|$)|{_ABBREVIATION}\.(?=[*_\"')]{{0,4}}(?:\s|$)|[^\x00-\x7f])")
_SENTENCE_END = re.compile(rf"{_END.pattern}|(?<=[a-z] [A-Z])\.(?=\s)")  # "... is B. Then"
_CUE = re.compile(r"\b(?:answers?|ans)\b(?!\s(?:choices|options))|答案[>\]]?|答え|정답|正解", re.IGNORECASE)
_CONDITION = re.compile(
    r"\b(?:if|whether|suppose|assum(?:e|ing)|thought|guess(?:ed)?|doubt|no way|nobody)\b(?:\s\w+){0,4}\s$"
    r"|\b(?:if\b(?!\sI\b)[^.?!\n]{1,40},)\s(?:the\s)?$",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(?P<between>[^.:=?!\n→是为答]{0,80}?)"
    r"(?:\b(?:is|are|was|equals|comes\sto|be(?!\s\w{2,12}\s(?:by|from|as|using|with|in)\b))\b\s?[:,=]?"
    r"|[:=→是为]|-{1,2}>|[-–—](?=\s)|(?=\n)|(?<=答案[>\]]))[\s*_:]{0,9}"
    r"(?:(?:therefore|thus|hence|then|simply|clearly|definitely|probably|most\slikely|likely|indeed|that)\b[\s:,]{1,3})?",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"^(?:(?:definitely|certainly|clearly|probably|likely)\s)?(?:not|never|neither)\b|^(?:不是|并非)", re.IGNORECASE
)
_DENYING = re.compile(r"\b(?:(?:can)?not|never)\b|n't\b|[不非]", re.IGNORECASE)
_REASON = re.compile(
    r",?\s(?:because|since|due to|given that|as (?:it|the|this|that|these|they|we|there)|so that|where|which)\b"
    r"|[,，]?(?:因为|由于)",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\beither\b|\bor\b(?! (?:more|less|fewer|greater|higher|lower|above|below|so|equal|equivalently|simply)\b)"
    r"|^\W{0,9}(?:somewhere )?between\b|或|还是|抑或",
    re.IGNORECASE,
)


class Statement(NamedTuple):
    """An answer that a text states: what stands in the box or after the cue, and where in the plain text it begins."""

    text: str
    start: int
    is_boxed: bool


def stated_answer(text: str) -> str | None:
    r"""The answer that a prose states: its last `\boxed{}`, else what follows its last cue; None without either.

    Boxes that "and", "or" or a comma joins are one answer. What is denied ("the answer is not 5") is none. The text
    comes with plain characters (`plain_characters`), and may hold Markdown and LaTeX.

    >>> stated_answer(r"So $x = \boxed{\frac{1}{2}}$ cm."), stated_answer(r"\boxed{1} and \boxed{2}")
    ('\\frac{1}{2}', '1 and 2')
    >>> stated_answer("Angle C is 20 degrees. Therefore, the answer is 40."), stated_answer("Answer:\n\n**3.5 cm**")
    ('40', '3.5 cm')
    >>> stated_answer("答案：3。"), stated_answer("The answer is not 5."), stated_answer("It is 7.")
    ('3', None, None)
    """
    plain = final_part(text)
    statements = boxed_answers(plain) or cued_answers(plain)
    return statements[-1].text if statements else None


def final_part(text: str) -> str:
    """The end of a text, where its final statement stands, with plain characters; positions refer to this."""
    return plain_characters(text[-MAX_CHARS:])


def boxed_answers(text: str) -> list[Statement]:
    r"""The contents of all `\boxed{}` in their order, with balanced braces; a box that is cut off is none.

    >>> [box.text for box in boxed_answers(r"\boxed{\text{a}}, $\boxed{b}$. Then \boxed{3} or \boxed{4}, \boxed{")]
    ['\\text{a}, b', '3 or 4']
    """
    joined: list[Statement] = []
    end = 0
    for start, inside, close in sorted(box_spans(text)):
        content, joint = text[inside:close].strip(), text[end:start]
        if joined and len(joint) <= 40 and _JOINT.fullmatch(joint.strip("$")):
            content = f"{joined[-1].text}{_mark(joint)}{content}"
            start = joined.pop().start
        joined.append(Statement(content, start, True))
        end = max(end, close + 1)
    return joined


def _mark(joint: str) -> str:
    """How two boxes are joined, as plain words."""
    words = re.findall("and|or|[和与或及]", joint)
    return f" {words[0]} " if words else ", "


def box_spans(text: str) -> list[tuple[int, int, int]]:
    r"""(start, start of the content, closing brace) of every `\boxed{}` that is closed.

    >>> box_spans(r"so \boxed{x_{1}}")
    [(3, 10, 15)]
    """
    boxes, opened = [], []
    for match in _BRACE.finditer(text):
        if match["box"] or match[0] == "{":
            opened.append(match)
        elif match[0] == "}" and opened and (opening := opened.pop())["box"]:
            boxes.append((opening.start(), opening.end(), match.start()))
    return boxes


def cued_answers(text: str) -> list[Statement]:
    """What follows the last cues of an answer ("the answer is", "Answer:"), up to the end of the sentence.

    >>> [said.text for said in cued_answers("The answer is 3 cm, since 3 > 2. If the answer is 4, ... Answer: 5")]
    ['3 cm', '5']
    """
    statements = []
    for cue in list(_CUE.finditer(text))[-_LAST_CUES:]:
        link = _LINK.match(text, cue.end())
        said = sentence_at(text, link.end()) if link else ""
        if said and not _is_denied(text, cue.start(), link, said):
            statements.append(Statement(without_reason(said), link.end(), False))
    return statements


def _is_denied(text: str, cue: int, link: re.Match[str], said: str) -> bool:
    """Whether a statement is a condition or denied: "if the answer is", "it is not"; "Answer: not red" is neither."""
    denies = _DENYING.search(link["between"]) or (":" not in link[0] and _DENIED.match(said))
    return bool(denies or _CONDITION.search(text, max(cue - 60, 0), cue))


def sentence_at(text: str, start: int) -> str:
    """A text from `start` to the end of its sentence or line, without emphasis and the final period.

    >>> sentence_at("It is **3.5 cm**. So it is long.", 6)
    '3.5 cm'
    """
    end = _END.search(text, start, start + 2_000)
    return text[start : end.start() if end else start + 2_000].replace("**", "").strip(" \t\r\n*_`.")


def without_reason(statement: str) -> str:
    """A statement without the clause that gives its reason.

    >>> without_reason("C, because it is round")
    'C'
    """
    return _REASON.split(statement, maxsplit=1)[0].strip()


def sentences(text: str) -> list[str]:
    """The sentences and lines of the end of a text, without emphasis and final periods.

    >>> sentences("First 7, then 9 more. So the total is **16**.")
    ['First 7, then 9 more', 'So the total is 16']
    """
    return [said for part in _SENTENCE_END.split(text[-4_000:]) if (said := part.replace("**", "").strip(" \t\r*_`."))]


def is_open(statement: str) -> bool:
    """Whether a statement leaves open which of several answers it means: "7 or 8", "either", "between 2 and 3".

    >>> [is_open(said) for said in ("7 or 8", "either 7 or 8", "between 2 and 3", "7或8", "3 or more", "7 and 8")]
    [True, True, True, True, False, False]
    """
    return _OPEN.search(statement) is not None
