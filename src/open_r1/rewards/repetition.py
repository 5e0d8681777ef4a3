"""The repetition penalty: the share of a completion's word triples that repeat earlier ones.

As in open-r1 (huggingface/open-r1, rewards.py) for n = 3 and a largest penalty of 1. VLM-R1 takes n = 6 for prose and
single boxes for lists of detections; here a JSON object is one word, so different boxes cost nothing and repeated ones
do. In scripts without spaces each character is a word.
"""

from open_r1.data.record import Record
from open_r1.rewards.parsing.units import repetition_units

NGRAM = 3
MAX_PENALTY = 1.0
MAX_REPETITION_CHARS = 50_000  # of a longer text only the end is read, where a looping model repeats itself


def repetition(completion: str, record: Record) -> float:
    """A value in [-1, 0]: 0 where every triple is new, and for fewer than three words.

    >>> row = Record("1", (), "", (), "3")
    >>> repetition("one two three four five", row), repetition("no no no no no no", row)  # 1 of 4 triples is new
    (0.0, -0.75)
    """
    words = repetition_units(completion[-MAX_REPETITION_CHARS:])
    total = len(words) - NGRAM + 1
    if total < 1:
        return 0.0
    new = len(set(zip(*(words[k : k + total] for k in range(NGRAM)), strict=True)))
    return MAX_PENALTY * (new / total - 1)
