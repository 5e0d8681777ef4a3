"""The rewards of transcribed text (OCR): edit distance of the answer to the gold text. (rapidfuzz)

Characters of any width are the same, and so are spaces and line breaks, however many. A text within a Markdown fence
is read without it.
"""

import re

import orjson
from rapidfuzz.distance import Levenshtein

from open_r1.data.record import Record
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.parsing.answer import compose, final_text, fold_case, without_markup
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.statement import stated_answer

MAX_GOLD_CHARS = 20_000  # the distance of two texts so long takes about 10 ms
MARGIN = 1_000  # characters that may stand around an answer
ANLS_THRESHOLD = 0.5  # of the normalised distance, from which on an answer is worth nothing

_FENCE = re.compile(r"\s{0,9}```\w{0,20}\n(.*?)\n?```\s{0,9}", re.DOTALL)


def cer(completion: str, record: Record) -> float:
    """max(0, 1 - character error rate) in [0, 1]: edits that make the gold text of the answer, over gold's length.

    Raises DataError (field `solution`) for a gold that is blank or over 20,000 characters.

    >>> row = Record("1", (), "", (), "Hello world")
    >>> [round(cer(text, row), 3) for text in ("Hello  world", "Hallo wörld", "Hello world, hello world!", "")]
    [1.0, 0.818, 0.0, 0.0]
    """
    (gold,) = _checked(record, [_text(gold_text(record))])
    answer = _text(final_text(completion)[: _readable(gold)])
    return max(0.0, 1 - Levenshtein.distance(gold, answer, score_cutoff=len(gold)) / len(gold))


def anls(completion: str, record: Record) -> float:
    """ANLS of ST-VQA and DocVQA in [0, 1]: 1 - NL to the nearest accepted text, 0 from NL = .5 on.

    NL is the edit distance over the length of the longer text; case does not matter. Gold is a text or a JSON list of
    accepted texts. "The answer is ..." and Markdown around an answer are left out.

    Raises DataError (field `solution`) for a gold without texts, or with one over 20,000 characters.

    >>> row = Record("1", (), "", (), '["12 March 1999", "March 12, 1999"]')
    >>> [round(anls(text, row), 3) for text in ("march 12, 1999", "The answer is: 12 March 1998.", "in spring")]
    [1.0, 0.923, 0.0]
    """
    golds = _checked(record, [_folded(text) for text in accepted_texts(record)])
    said = final_text(completion)[: _readable(*golds)]
    answers = {_folded(said), _folded(stated_answer(said) or said)}
    return max(_similarity(gold, answer) for gold in golds for answer in answers if answer) if any(answers) else 0.0


def accepted_texts(record: Record) -> list[str]:
    """The gold texts of `anls`; raises DataError (field `solution`) where a list holds none or anything but texts."""
    gold = gold_text(record)
    try:
        values = orjson.loads(gold) if gold.startswith("[") else gold
    except orjson.JSONDecodeError:
        return [gold]
    if not isinstance(values, list):
        return [gold]
    texts = [str(value) for value in values if type(value) in (str, int, float)]
    if not texts or len(texts) < len(values):
        raise bad_gold(record, "a text or a list of accepted texts")
    return texts


def has_accepted_texts(record: Record) -> bool:
    """Whether the gold is a JSON list of texts, each of which is accepted.

    >>> has_accepted_texts(Record("1", (), "", (), '["a", "b"]')), has_accepted_texts(Record("1", (), "", (), "[1]"))
    (True, False)
    """
    try:
        values = orjson.loads(gold_text(record))
    except orjson.JSONDecodeError:
        return False
    return isinstance(values, list) and bool(values) and all(isinstance(text, str) for text in values)


def first_accepted(record: Record) -> str:
    """The first of the gold texts of `anls`."""
    return accepted_texts(record)[0]


def _similarity(gold: str, answer: str) -> float:
    longest = max(len(gold), len(answer))
    distance = Levenshtein.distance(gold, answer, score_cutoff=int(ANLS_THRESHOLD * longest) + 1) / longest
    return 1 - distance if distance < ANLS_THRESHOLD else 0.0


def _readable(*golds: str) -> int:
    """How many characters of an answer are read: of so long a one no gold is near, unless it is mostly spaces."""
    return 4 * max(map(len, golds)) + MARGIN


def _checked(record: Record, golds: list[str]) -> list[str]:
    if all(golds) and max(map(len, golds)) <= MAX_GOLD_CHARS:
        return golds
    raise bad_gold(record, f"texts that are not blank, of at most {MAX_GOLD_CHARS:,} characters")


def _text(text: str) -> str:
    fenced = _FENCE.fullmatch(text)
    return " ".join(plain_characters(compose(fenced[1] if fenced else text)).split())


def _folded(text: str) -> str:
    is_price = text.count("$") == 1  # the sign then belongs to the text
    return fold_case(_text(text.strip(" *`\"'") if is_price else without_markup(text)))
