"""Message decoding, after r1_vlm: similarity of the spelled letters, the exact answer, and the answer's similarity.

The row's extra field `coded` holds the message as coded, without spaces. In direct mode nothing is spelled out, so
`decode_chars` does not apply and gates nothing.
"""

from rapidfuzz.distance import Levenshtein

from open_r1.data.record import Record
from open_r1.errors import DataError, Problem, shorten
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.parsing.chars import parse_chars, parse_message, same_case


def decode(completion: str, record: Record) -> float:
    """1.0 where the answer is the message, else 0.0; the accuracy method.

    >>> decode("<answer>CAT</answer>", Record("1", (), "", (), "CAT")), decode("CUT", Record("1", (), "", (), "CAT"))
    (1.0, 0.0)
    """
    return float(parse_message(completion) == gold_message(record))


def parse_decoded(completion: str, record: Record) -> str | None:
    """The message that an answer is."""
    return parse_message(completion)


def decode_chars(completion: str, record: Record) -> float | None:
    """Similarity in [0, 1] of the letters in `<chars>` with the message: 1 - edit distance / length of the longer.

    0.0 where they are nearer to the code than to the message, so that copying the question earns nothing, and where
    the tags are not there once each inside the thinking. None in direct mode.

    >>> record = Record("1", (), "", (), "cat", {"coded": "xyz"})
    >>> spelled = "<think><chars> c a b </chars></think><answer>cab</answer>"
    >>> decode_chars(spelled, record), decode_chars(spelled.replace("c a b", "x y b"), record)
    (0.6666666666666667, 0.0)
    """
    return None if _is_direct(record) else similarity(parse_chars(completion), record)


def decode_answer(completion: str, record: Record) -> float:
    """1.0 for the exact answer after the exact letters in `<chars>` (in direct mode: after none), else 0.0."""
    return decode(completion, record) if _spelled(completion, record) else 0.0


def decode_partial(completion: str, record: Record) -> float:
    """Similarity in [0, 1] of the answer with the message, as in `decode_chars`, after the exact letters in `<chars>`
    (in direct mode: after none); else 0.0."""
    return similarity(parse_message(completion), record) if _spelled(completion, record) else 0.0


def similarity(text: str | None, record: Record) -> float:
    """1 - edit distance / length of the longer, or 0.0 where a text is nearer to the code than to the message.

    >>> similarity("bat", Record("1", (), "", (), "cat", {"coded": "xyz"}))
    0.6666666666666667
    """
    if not text:
        return 0.0
    to_message = Levenshtein.normalized_similarity(text, gold_message(record))
    to_code = Levenshtein.normalized_similarity(text, coded_message(record))
    return 0.0 if to_code > to_message else to_message


def gold_message(record: Record) -> str:
    """The message, as `answers.chars.same_case` writes it. Raises DataError (field `solution`) for other than letters
    and spaces or `_`.

    >>> gold_message(Record("1", (), "", (), "Cat dog"))
    'cat_dog'
    """
    message = same_case(gold_text(record))
    if not message.replace("_", "").isalpha():
        raise bad_gold(record, "a message of letters, with _ or a space between words")
    return message


def coded_message(record: Record) -> str:
    """The message in code, written likewise. Raises DataError (field `coded`) without one of the message's length."""
    coded = record.extra.get("coded")
    written = "_".join(coded.casefold().split()) if isinstance(coded, str) else ""
    if len(written) != len(gold_message(record)):
        expected = f"the coded message, {len(gold_message(record))} characters as the message has"
        remedy = "write the coded message without spaces between its letters, _ between words"
        raise DataError([Problem(record.where, "coded", shorten(coded), expected, remedy)])
    return written


def spelling(record: Record) -> str:
    """What a perfect completion thinks.

    >>> spelling(Record("1", (), "", (), "CAT DOG"))
    '<chars> C A T _ D O G </chars>'
    """
    return f"<chars> {' '.join('_'.join(gold_text(record).split()))} </chars>"


def _spelled(completion: str, record: Record) -> bool:
    return _is_direct(record) or parse_chars(completion) == gold_message(record)


def _is_direct(record: Record) -> bool:
    return record.extra.get("prompt_mode") == "direct"
