"""Reads which options a sentence chooses: "So the missing tile is D", not "A has two sides". (torch-free)"""

import re
from collections.abc import Iterator

from open_r1.rewards.parsing.choice_statements import FIGURE, NOUN, is_denied
from open_r1.rewards.parsing.labels import Labels, labels_at
from open_r1.rewards.parsing.option_texts import NOTHING, Choice, OptionTexts

_MOST = 20  # labels of a sentence that are read
_LINKING = (
    r"is|be|are|was|therefore|thus|hence|so|but|leaves|leaving|makes|making|corresponds? to|matches|looks? like"
    r"|one in|shown in|labell?ed(?: as)?"
)
_LINKED = {  # by whether the options are pictures
    pictures: re.compile(
        rf"(?:\b(?i:{_LINKING})\b[,:]?|'s|→|只有|[是为选])\s?(?:(?i:the)\s)?(?:(?i:{noun})\s?|选项)?(?=[(\[]?\s?[A-Z])"
    )
    for pictures, noun in ((False, NOUN), (True, f"{NOUN}|{FIGURE}"))
}
_NAMED = {
    pictures: re.compile(rf"(?:\b(?i:{noun})\b:?\s?|选项)(?=[(\[]?[A-Z])|(?<![\w\\)}}°])(?=[(\[]\s?[A-Z]\s?[)\]])")
    for pictures, noun in ((False, NOUN), (True, rf"{NOUN}|(?:{FIGURE})(?=\s\W?[A-Z]\W*$)"))
}
_FITS = (
    r"fits?|match(?:es)?|satisf(?:ies|y)|completes?|works?|meets?|follows?|represents?|continues?"
    r"|(?:would|must|should) (?:be|complete|replace|come|go|follow)|is (?:different|correct|right)"
)
_FITTING = re.compile(
    rf"(?:^|[,;:]\s|\b(?i:only|{NOUN}|{FIGURE}|that|so|therefore)\s)"
    rf"(?=\(?[A-Z]\)?(?:,?\s(?:and\s)?\(?[A-Z]\)?){{0,9}}\s(?:{_FITS})\b)"
    r"|(?:^|\b(?i:so|thus|therefore|hence),?\s)(?=[A-Z]\sis\s(?:the|an?)\s\w)"
)
_FINAL = re.compile(r"(?:(?<![^A-Za-z][A-Z])[,:]|[=-]>|\b(?:only|say|with|i\.e\.,?))\s(?=[A-Z]\.$)")
_PREDICATE = re.compile(r"\s(?:is|are|was|were|has|have|does|shows?|would|can|will)\b")
_DISMISSED = re.compile(
    r"(?:(?!\b(?:because|since|as|for|which|while|but)\b)[^.,;\n]){0,40}?(?:\b(?:is|are|was|were|can|does|do)(?:n't|\snot)\b"
    r"|\b(?:incorrect|wrong|false|eliminated|ruled out|invalid)\b|错|不)",
    re.IGNORECASE,
)
_SHORT = 100  # characters of an answer that says little but its letter
_LONE = re.compile(
    r"(?<![\w\\'\"-])(?<!\w\()(?<!°)(?:[B-HJ-Z]|(?<=[a-z]\s)A(?=\W*$|\s(?:is|are|can|could|will|lights)\b)|(?<=\()A)"
    r"(?![\w'-]|\s?[=+^<>(∠°])"
)
_LONE_LOWER = re.compile(r"(?<![\w\\'-])(?:[b-h]|(?<=[a-z]\s)a(?=\W?$))(?![\w'-]|\s?[=+^<>(°])")
_DOUBTED = re.compile(r"\b(?:doubt that|doubt the|no way|nobody|disagree with)\b", re.IGNORECASE)
_ASIDE = re.compile(
    r"[?><°=∪∩]|\d\s?[A-Z]\b|\b(?:points?|angle|vitamin|let|let's|at|line|side)\s(?:\w+\s)?[A-Z]\b|\b(?:not|except|depends|unclear|maybe|could|try|which|has|no|or|either|see|compare|according|group)\b|n't\b",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(r"\s?:\s?(?!$)|[中里内的与]")  # "Option A: ..." begins a discussion


def stated_in(sentence: str, texts: OptionTexts) -> Choice | None:
    """The first choice of what follows "the answer is"; None where it names no option.

    >>> stated_in("the one with the largest area, which is (B), not A", OptionTexts({})).letters
    'B'
    """
    linked, named = _labels(sentence, _LINKED, texts), _labels(sentence, _NAMED, texts)
    found = sorted([*linked, *named], key=lambda labels: labels.end)
    return texts.choice(found[0], sentence[found[0].end :]) if found else None


def concluded_in(sentence: str, texts: OptionTexts) -> Choice | None:
    """The last choice of a concluding sentence; else the only option that it names.

    >>> concluded_in("As A is even, the odd one is B.", OptionTexts({})).letters
    'B'
    >>> concluded_in("Option A is longer than option B.", OptionTexts({})) is None
    True
    """
    if _DOUBTED.search(sentence):
        return NOTHING
    found = list(_labels(sentence, _LINKED, texts))
    if (
        not found
        and len({sentence[match.end() :].strip("([ ")[:1] for match in _matches(sentence, _NAMED, texts)}) == 1
    ):
        found = list(_labels(sentence, _NAMED, texts))
    found = found or [labels for labels in _fitting(sentence) if labels]
    return texts.choice(found[-1], sentence[found[-1].end :]) if found else None


def _fitting(sentence: str) -> list[Labels | None]:
    """The labels that are found to fit, or end the sentence: "only D satisfies both", "we are left with D."."""
    places = [match.end() for pattern in (_FITTING, _FINAL) for match in pattern.finditer(sentence)]
    return [labels_at(sentence, place) for place in places if not is_denied(sentence, place)]


def lone_letter(text: str, texts: OptionTexts) -> Choice | None:
    """The only letter of a short answer about pictures: "Cube C can be made from the net.", "figure b".

    >>> lone_letter("The ball follows path C.", OptionTexts({})).letters, lone_letter("Maybe D?", OptionTexts({}))
    ('C', None)
    """
    if not texts.are_pictures or len(text) > _SHORT or "\n" in text or _ASIDE.search(text):
        return None
    found = list(_LONE.finditer(text)) or list(_LONE_LOWER.finditer(text))
    letters = {match[0].upper() for match in found}
    is_kept = len(letters) == 1 and len(found) < 3 and not any(is_denied(text, match.start()) for match in found)
    return (
        Choice(letters.pop()) if is_kept and texts.has(letters) and not is_dismissed(text, found[-1].end()) else None
    )


def is_dismissed(text: str, end: int) -> bool:
    """Whether what follows labels, which end at `end`, dismisses them: "is not", "can be eliminated"."""
    return _DISMISSED.match(text, end) is not None


def _labels(sentence: str, patterns: dict[bool, re.Pattern[str]], texts: OptionTexts) -> Iterator[Labels]:
    """The labels after a pattern, each once, that are neither denied nor only talked about."""
    end = 0
    for match in _matches(sentence, patterns, texts):
        labels = labels_at(sentence, match.end(), is_strict=True) if match.end() >= end else None
        if labels and not is_denied(sentence, match.end()) and not _is_discussed(sentence, labels.end, patterns):
            yield labels
            end = labels.end


def _matches(sentence: str, patterns: dict[bool, re.Pattern[str]], texts: OptionTexts) -> list[re.Match[str]]:
    return list(patterns[texts.are_pictures].finditer(sentence))[-_MOST:]


def _is_discussed(sentence: str, end: int, patterns: dict[bool, re.Pattern[str]]) -> bool:
    """Whether labels that end at `end` are only talked about: "Option A: ...", "A is not ...", "thus A has ..."."""
    is_subject = patterns is _LINKED and sentence[end - 1].isalpha() and _PREDICATE.match(sentence, end)
    return bool(is_subject or is_dismissed(sentence, end) or _INTRODUCED.match(sentence, end))
