"""Reads which options an answer chooses, by letter or by text. (torch-free)"""

import re
from collections.abc import Mapping, Sequence

from open_r1.rewards.parsing.choice_statements import FIGURE, NOUN, ChoiceStatement, choice_statements, line_labels
from open_r1.rewards.parsing.formula_spans import is_prose
from open_r1.rewards.parsing.label_lines import LABEL_LINE, headed, labelled
from open_r1.rewards.parsing.labels import CLOSED, OPENED, label_text, labels_at
from open_r1.rewards.parsing.named_texts import named_by_text
from open_r1.rewards.parsing.option_texts import NOTHING, Choice, OptionTexts, first_clause
from open_r1.rewards.parsing.sentence_choice import concluded_in, is_dismissed, lone_letter, stated_in
from open_r1.rewards.parsing.statement import is_open, sentences

_FILLER = (
    r"most likely|likely|probably|definitely|clearly|simply|indeed|therefore|thus|hence|then|that|the|it|is|to be|be"
    r"|as|correct|right|best|one|labell?ed|marked|both|either|between"
)
_LEAD = rf"(?:[\s:,\"'→=-]|\b(?:{_FILLER}|{NOUN})\b|选项|答案|应该?|[是为选])*"
_LEADS = {  # by whether the options are pictures
    False: re.compile(_LEAD, re.IGNORECASE),
    True: re.compile(rf"{_LEAD}(?:\b(?:{FIGURE})\s|图形?|图片)?", re.IGNORECASE),
}
_EITHER = re.compile(r"\b(?:either|between)\b", re.IGNORECASE)
_POINTS_AT = re.compile(
    r"^(?:so|thus|therefore|hence)?,?\s?(?:it|this|that)(?:'s|\s(?:is|must be|should be|matches|corresponds to))\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?i:option|choice|answer)\s(?=[(\[]?[A-Z]\b)|(?<![\w\\)}°])(?=[(\[][A-Z][)\]])|选项(?=[A-Z])")
_CORRECTION = re.compile(
    r"(?:\b(?:actually|correction|sorry|wait|hold on|scratch that|I meant?|apologi[sz]e|however|but)\b"
    r"|[?,.]\sno\b|\bno,|不对|等等|→|->)"
    r"[\s,:.!]{0,3}(?:no\b[\s,:.!]{1,3}|wait\b[\s,:.!]{1,3}|I meant?\s|now\s|it(?:'s|\sis)\s(?:actually\s)?|应该?是)?",
    re.IGNORECASE,
)
_COURTESY = re.compile(r"\b(?:hope|let me know|feel free|anything else|glad to|happy to|questions)\b", re.IGNORECASE)
_UNDECIDED = re.compile(r"\b(?:can(?:not|'t)|unable|could ?n[o']t|impossible|sorry|insufficient)\b", re.IGNORECASE)
_CUT = re.compile(r"[a-z,:]\s*$")
_CUT_CHARS = 1_500  # a shorter text without a final period was not cut off
_EQUALS = re.compile(r"(?:\b(?:is|are|be|equals)\b|[=≈:]|[是为])\s?")
_AND = re.compile(r"\band\b|[和与及]")


def parse_option(text: str, options: Sequence[str] | Mapping[str, str] | None = None) -> str | None:
    """The one option letter, A to Z, that an answer chooses; None where it chooses none or several.

    >>> parse_option("(B)"), parse_option("The answer is C."), parse_option("A or B"), parse_option("A cat sits")
    ('B', 'C', None, None)
    >>> parse_option("12 cm", ["9 cm", "12 cm"]), parse_option("A. 12 cm", ["9 cm", "12 cm"])
    ('B', None)
    """
    letters = read_choice(text, options).letters
    return letters if len(letters) == 1 else None


def letter_set(text: str) -> str:
    """The letters of a text that is only letters, each once, in their order: "A, C", "(A)(C)", "AC"; else "".

    >>> letter_set("C and A"), letter_set('["A","C"]'), letter_set("ABD"), letter_set("BAD"), letter_set("（B）")
    ('AC', 'AC', 'ABD', '', 'B')
    """
    plain = _AND.sub(" ", label_text(text[:200]))
    plain = plain.upper() if re.fullmatch(r"(?:[a-j]\W+){1,9}[a-j]", plain) else plain
    letters = re.findall("[A-Z]", plain)
    is_apart = re.fullmatch(r"[^A-Za-z0-9]*(?:[A-Z][^A-Za-z0-9]+)*[A-Z]?[^A-Za-z0-9]*", plain)
    is_whole = is_apart or (letters == sorted(letters) and re.fullmatch("[A-Z]{2,26}", plain))
    return "".join(sorted(letters)) if is_whole and len(letters) == len(set(letters)) else ""


def read_choice(
    text: str, options: Sequence[str] | Mapping[str, str] | None = None, is_multiple: bool = False
) -> Choice:
    """The options that the final statement of an answer chooses, by letter or by an option's text.

    Read in this order: boxes, "the answer is (B)", "B is correct", a letter alone on the last line, the last of them
    first; a letter with its text ("B. 12 cm"); the conclusion of the last sentences ("So it is B."); the only option
    that is named. With `options`, a letter beyond them, or with the text of another option, chooses nothing. Where
    several options may be right (`is_multiple`), "AC" and lines with a label each choose several.

    >>> read_choice("A is wrong. So the answer is (B), not C.").letters, read_choice("Answer: A, C").letters
    ('B', 'AC')
    >>> read_choice("The answer is 80.", ["30", "60"])
    Choice(letters='', stated='80')
    """
    texts = OptionTexts.of(options)
    text = label_text(text)
    label, _, rest = text.partition(" ")
    if letter := texts.letter_of(text) or (label if label and label == texts.letter_of(rest) else ""):  # "B 12 cm"
        return Choice(letter)
    statements = choice_statements(text)
    if is_multiple and (letters := _several(_last_list(text)) or _several(statements[0].text if statements else text)):
        return Choice(letters) if texts.has(letters) else NOTHING
    if (choice := _pointed_at(text, texts)) is not None:
        return choice
    if (choice := _corrected(text, statements, texts)) is not None:
        return choice
    readings = (_read(said, texts) for said in statements)
    fallbacks = (read(text, texts) for read in _FALLBACKS)
    found = next((choice for reads in (readings, fallbacks) for choice in reads if choice is not None), None)
    if found and len(found.letters) == 1 and _is_contradicted(found.letters, text, texts):
        return NOTHING
    return found or Choice("", statements[0].text if statements else _conclusion(text))


def _is_contradicted(letter: str, text: str, texts: OptionTexts) -> bool:
    """Whether one of the last two sentences is, but for the letter, another option's text: "9 cm (B)", "B\\n9 cm"."""
    label = re.compile(rf"[(\[]?\b(?i:(?:so |option |answer:? |choice )*){letter}\b[)\]]?[.:]?")
    said = [label.sub("", sentence).strip(" ,.:") for sentence in _last_sentences(text)[-2:]]
    others = {texts.letter_of(re.sub(r"^(?:an?|the)\s", "", rest)) for rest in said if rest} - {""}
    return bool(others) and letter not in others


def _several(text: str) -> str:
    """The letters of a text that is nothing but several letters, or lines with a label each."""
    lead = _LEADS[False].match(text)
    text = text[lead.end() if lead else 0 :]
    lines = [line for line in text.split("\n") if line.strip()]
    labels = [match["label"] if (match := LABEL_LINE.match(line)) else line for line in lines]
    letters = letter_set(" ".join(labels) if len(labels) > 1 else text.replace(OPENED, "").replace(CLOSED, ""))
    return letters if len(letters) > 1 else ""


def _last_list(text: str) -> str:
    """The last lines of a text that each begin with a label or are one."""
    lines = [line for line in text.split("\n") if line.strip()]
    is_label = [bool(LABEL_LINE.match(line) or line_labels(line)) for line in lines]
    first = len(lines) - next((n for n, labelled in enumerate(reversed(is_label)) if not labelled), len(lines))
    return "\n".join(lines[first:])


def _pointed_at(text: str, texts: OptionTexts) -> Choice | None:
    """The choice of a last sentence such as "So it is B."; it comes after all statements."""
    said = _last_sentences(text)[-1:]
    return concluded_in(f"{said[0]}.", texts) if said and _POINTS_AT.search(said[0]) else None


def _corrected(text: str, statements: list[ChoiceStatement], texts: OptionTexts) -> Choice | None:
    """The choice after a last word of correction ("Wait, no: C."), where no statement follows it."""
    marks = list(_CORRECTION.finditer(text))
    if not marks or not text[: marks[-1].start()].strip() or (statements and statements[0].start >= marks[-1].end()):
        return None
    rest = text[marks[-1].end() :].strip()
    labels = line_labels(rest.partition("\n")[0])
    choice = texts.choice(labels, "") if labels else _concluded(rest, texts)
    return choice if choice and choice.letters else None


def _read(said: ChoiceStatement, texts: OptionTexts) -> Choice | None:
    """What a statement chooses; NOTHING where it leaves that open, None where it names no option."""
    if said.labels:
        return texts.choice(said.labels, "")
    text = said.text.replace(OPENED, " ").replace(CLOSED, " ").strip()
    if letter := texts.letter_of(text):
        return Choice(letter)
    clause = first_clause(text)
    if letter := "" if is_open(text) else texts.letter_of(clause):
        also = stated_in(text[len(clause) :], texts)
        return Choice(letter) if also in (None, NOTHING, Choice(letter)) else NOTHING
    lead = _LEADS[texts.are_pictures].match(text)
    for start in (0, lead.end() if lead else 0):
        if labels := labels_at(text, start):
            is_either = labels.is_open or bool(_EITHER.search(text, 0, start))
            return texts.choice(labels._replace(is_open=is_either), text[labels.end :])
    return stated_in(text, texts) or _by_end(text, texts)


def _by_end(text: str, texts: OptionTexts) -> Choice | None:
    """The option whose text a statement ends with: "the value of x is 7"."""
    letter = "" if is_open(text) else texts.letter_of(_EQUALS.split(text)[-1])
    return Choice(letter) if letter else None


def _first_line(text: str, texts: OptionTexts) -> Choice | None:
    """The labels that are the first line of an explanation."""
    labels = line_labels(text.partition("\n")[0])
    return texts.choice(labels, "") if labels else None


def _concluded(text: str, texts: OptionTexts) -> Choice | None:
    """The choice of the last sentence that makes one: "So it is B."."""
    said = _last_sentences(text)
    if len(text) > _CUT_CHARS and _CUT.search(text):
        said = said[:-1]
    for sentence in reversed(said[-3:]):
        if (choice := concluded_in(f"{sentence}.", texts)) is not None:
            return choice
    conclusion = _conclusion(text)
    letter = "" if is_open(conclusion) else texts.letter_of(conclusion) or texts.letter_of(first_clause(conclusion))
    return Choice(letter) if letter else None


def _conclusion(text: str) -> str:
    """What the last sentence says of its subject: "16" of "so the total is 16"; a formula alone says itself.

    A labelled line says nothing: it may be the last of a list of options.
    """
    said = _last_sentences(text)
    if not said or LABEL_LINE.match(said[-1]) or _UNDECIDED.search(said[-1]):
        return ""
    *_, last = parts = _EQUALS.split(said[-1][-400:])
    return last if len(parts) > 1 or not is_prose(last) else ""


def _last_sentences(text: str) -> list[str]:
    """The sentences of the end of a text, without those of courtesy."""
    return [sentence for sentence in sentences(text) if not _COURTESY.search(sentence)]


def _named(text: str, texts: OptionTexts) -> Choice | None:
    """The only option that a finished text names, and does not dismiss."""
    if _UNDECIDED.search(text) or not re.search(r"[.!)]$", text):
        return None
    found = [labels for match in list(_NAMED.finditer(text))[:50] if (labels := labels_at(text, match.end()))]
    is_kept = len({labels.letters for labels in found}) == 1 and not is_dismissed(text, found[-1].end)
    return texts.choice(found[-1], "") if is_kept else None


_FALLBACKS = (_first_line, labelled, _concluded, headed, _named, lone_letter, named_by_text)
