"""Whether a completion of a run looks like a cheap strategy of `rewards/strategies.py`. (torch-free)"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from open_r1.rewards.base import Outline
from open_r1.rewards.gold_table import GoldTable, same_words_key
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.referring import box_iou

NEAR_IOU = 0.9  # with the whole picture or its centre
GRID_PLACES = 9  # places in one answer from which on it is a grid
LONG_TOKENS = 1_500
LOOP_CHARS, LOOP_RATIO = 400, 0.12  # from this length on, a text that zlib makes so small repeats itself
COPIED_WORDS, COPIED_SHARE = 6, 0.8  # of the answer's word triples in the question
_HEDGE = re.compile(r"\S.{0,60}\s(?:or|oder|ou|或|或者)\s.{0,60}\S", re.IGNORECASE)
_LETTERS = re.compile(r"\(?[A-Z]\)?(?:(?:\s?[,;/&]\s?|\s(?:and|or)\s|\s)\(?[A-Z]\)?){2,25}\.?")
_JUDGE = re.compile(
    r"(?:ignore|disregard|forget)\b.{0,40}\b(?:above|previous|instructions)"
    r"|(?:grade|mark|rate) (?:this|it|me)\b|\"equal\"\s?:\s?true",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SavedAnswer:
    """A completion as a run saved it: text, prompt, length in tokens, and the places that it named on the pictures."""

    text: str
    prompt: str = ""
    tokens: int = 0
    outlines: Sequence[Outline] = ()

    @cached_property
    def answer(self) -> str:
        """The final text."""
        return final_text(self.text)


Resemblance = Callable[[SavedAnswer, GoldTable], bool]


def is_empty(saved: SavedAnswer, golds: GoldTable) -> bool:
    """A completion of white space."""
    return not saved.text.strip()


def is_blank(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer of white space in a completion that is none."""
    return bool(saved.text.strip()) and "<answer>" in saved.text and not saved.answer


def is_dots(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer of signs only.

    >>> is_dots(SavedAnswer("<answer>...</answer>"), GoldTable()), is_dots(SavedAnswer("7..."), GoldTable())
    (True, False)
    """
    return bool(saved.answer) and not any(map(str.isalnum, saved.answer))


def says(*texts: str) -> Resemblance:
    """The Resemblance of an answer that is one of these texts, but for case, spaces and markup.

    >>> says("i don't know")(SavedAnswer("<answer> I don't know. </answer>"), GoldTable())
    True
    """
    keys = {same_words_key(text) for text in texts}
    return lambda saved, golds: len(saved.answer) < 200 and same_words_key(saved.answer).strip("()") in keys


def is_most_frequent(saved: SavedAnswer, golds: GoldTable) -> bool:
    """The data's most frequent gold, where it has one that occurs twice."""
    ((key, times),) = golds.counts.most_common(1) or [("", 0)]
    if times < 2 or len(saved.answer) > 2 * len(golds.texts[key]) + 40:
        return False
    return same_words_key(saved.answer) in (same_words_key(golds.texts[key]), key.casefold())


def copies_question(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer whose word triples are those of the prompt.

    >>> asked = "user: <image>How many red cubes are behind the large cylinder?"
    >>> copies_question(SavedAnswer("How many red cubes are behind the large cylinder?", asked), GoldTable())
    True
    """
    said = saved.answer.casefold().split()
    if not COPIED_WORDS <= len(said) <= 400:
        return False
    words = saved.prompt.casefold().replace("<image>", "").split()
    asked = set(zip(words, words[1:], words[2:], strict=False))
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return sum(triple in asked for triple in triples) >= COPIED_SHARE * len(triples)


def hedges(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer that is nothing but one thing or another.

    >>> [hedges(SavedAnswer(text), GoldTable()) for text in ("7 or 8", "7 or 8? I count again: it is 7.", "7")]
    [True, False, False]
    """
    if len(saved.answer) >= 120 or re.search(r"[.?!。]\s", saved.answer):  # sentences
        return False
    return _HEDGE.fullmatch(saved.answer) is not None


def repeats_tags(saved: SavedAnswer, golds: GoldTable) -> bool:
    """More than one pair of answer tags."""
    return saved.text.count("<answer>") > 1


def lists_golds(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer that is the list of all golds, three or more, that the data has."""
    few = 2 < len(golds.keys) <= 26 and len(saved.answer) < 400
    return few and {same_words_key(part) for part in saved.answer.split(",")} >= {
        same_words_key(text) for text in golds.texts.values()
    }


def lists_letters(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer of three or more letters.

    >>> [lists_letters(SavedAnswer(text), GoldTable()) for text in ("A, B, C, D", "A and B", "(A) (B) (C)")]
    [True, False, True]
    """
    return len(saved.answer) < 200 and _LETTERS.fullmatch(saved.answer) is not None


def is_whole_image(saved: SavedAnswer, golds: GoldTable) -> bool:
    """One place that is all of the picture."""
    return _is_near(saved, (0.0, 0.0, 1.0, 1.0))


def is_centre_box(saved: SavedAnswer, golds: GoldTable) -> bool:
    """One place that is the middle of the picture, half its sides long."""
    return _is_near(saved, (0.25, 0.25, 0.75, 0.75))


def is_grid(saved: SavedAnswer, golds: GoldTable) -> bool:
    """Many places in one answer."""
    return len(saved.outlines) >= GRID_PLACES


def repeats_itself(saved: SavedAnswer, golds: GoldTable) -> bool:
    """A long text that says the same again and again.

    >>> repeats_itself(SavedAnswer("no, wait. " * 80), GoldTable())
    True
    """
    raw = saved.text[-4_000:].encode("utf-8", "replace")
    return len(raw) >= LOOP_CHARS and len(zlib.compress(raw)) < LOOP_RATIO * len(raw)


def goes_on(saved: SavedAnswer, golds: GoldTable) -> bool:
    """A completion of LONG_TOKENS or more."""
    return saved.tokens >= LONG_TOKENS


def speaks_to_judge(saved: SavedAnswer, golds: GoldTable) -> bool:
    """An answer that gives instructions to who grades it."""
    return _JUDGE.search(saved.answer[:4_000]) is not None


def _is_near(saved: SavedAnswer, box: tuple[float, float, float, float]) -> bool:
    """Whether the one place of an answer is about this box, in shares of the picture's sides."""
    if len(saved.outlines) != 1 or not saved.outlines[0].points:
        return False
    xs, ys = zip(*saved.outlines[0].points, strict=True)
    return box_iou((min(xs), min(ys), max(xs), max(ys)), box) > NEAR_IOU
