"""Rewards of message decoding, after r1_vlm: similarity of the decoded letters, exact answer, similar answer.

The row's extra field `coded` holds the coded message without spaces. In direct mode a completion has no `<chars>`, so
`decode_chars` does not apply and the two answer rewards do not depend on it.
"""

from rapidfuzz.distance import Levenshtein

from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import bad_gold, gold_text, is_direct
from open_r1.rewards.parsing.chars import normalize_message, parse_chars, parse_message


def decode(completion: str, record: Record) -> float:
    """1.0 where the answer is the message, else 0.0; the accuracy method.

    >>> decode("<answer>CAT</answer>", Record("1", (), "", (), "CAT")), decode("CUT", Record("1", (), "", (), "CAT"))
    (1.0, 0.0)
    """
    return float(parse_message(completion) == gold_message(record))


def parse_decoded(completion: str, record: Record) -> str | None:
    """The message that `decode` reads from a completion; None without one."""
    return parse_message(completion)


def decode_chars(completion: str, record: Record) -> float | None:
    """Similarity in [0, 1] of the letters in `<chars>` with the message: 1 - edit distance / length of the longer.

    0.0 for letters that are nearer to the coded message (a copy of the question pays nothing), and where the tags do
    not occur once each inside the thinking. None in direct mode.

    >>> record = Record("1", (), "", (), "cat", {"coded": "xyz"})
    >>> spelled = "<think><chars> c a b </chars></think><answer>cab</answer>"
    >>> decode_chars(spelled, record), decode_chars(spelled.replace("c a b", "x y b"), record)
    (0.6666666666666667, 0.0)
    """
    return None if is_direct(record) else message_similarity(parse_chars(completion), record)


def decode_answer(completion: str, record: Record) -> float:
    """1.0 for the exact answer with the exact letters in `<chars>` (not needed in direct mode), else 0.0."""
    return decode(completion, record) if _has_exact_chars(completion, record) else 0.0


def decode_partial(completion: str, record: Record) -> float:
    """Similarity in [0, 1] of the answer with the message, as in `decode_chars`; 0.0 without the exact letters in
    `<chars>` (not needed in direct mode)."""
    return message_similarity(parse_message(completion), record) if _has_exact_chars(completion, record) else 0.0


def message_similarity(text: str | None, record: Record) -> float:
    """1 - edit distance / length of the longer; 0.0 for a text that is nearer to the coded message.

    >>> message_similarity("bat", Record("1", (), "", (), "cat", {"coded": "xyz"}))
    0.6666666666666667
    """
    if not text:
        return 0.0
    to_message = Levenshtein.normalized_similarity(text, gold_message(record))
    to_code = Levenshtein.normalized_similarity(text, coded_message(record))
    return 0.0 if to_code > to_message else to_message


def gold_message(record: Record) -> str:
    """The gold message, normalized. Raises DataError (field `solution`) for other characters than letters, spaces,
    `_`.

    >>> gold_message(Record("1", (), "", (), "Cat dog"))
    'cat_dog'
    """
    message = normalize_message(gold_text(record))
    if not message.replace("_", "").isalpha():
        raise bad_gold(record, "a message of letters, with _ or a space between words")
    return message


def coded_message(record: Record) -> str:
    """The coded message, normalized. Raises DataError (field `coded`) where its length is not the message's."""
    coded = record.extra.get("coded")
    message = "_".join(coded.casefold().split()) if isinstance(coded, str) else ""
    if len(message) != len(gold_message(record)):
        expected = f"the coded message, {len(gold_message(record))} characters as the message has"
        remedy = "write the coded message without spaces between its letters, _ between words"
        raise data_error(record.where, "coded", shorten(coded), expected, remedy)
    return message


def chars_thinking(record: Record) -> str:
    """The thinking of a perfect completion: the letters of the message in `<chars>`.

    >>> chars_thinking(Record("1", (), "", (), "CAT DOG"))
    '<chars> C A T _ D O G </chars>'
    """
    return f"<chars> {' '.join('_'.join(gold_text(record).split()))} </chars>"


def _has_exact_chars(completion: str, record: Record) -> bool:
    return is_direct(record) or parse_chars(completion) == gold_message(record)
