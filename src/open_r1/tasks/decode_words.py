"""The task `decode_words`, after r1_vlm: decode one word with the picture of its decoder.

    python local_scripts/make_dataset.py decode_words --out data/decode_words --rows 10000
    python local_scripts/make_dataset.py decode_words --out data/small --alphabet 6 --size 84 --dark   # a tiny model's

The second command makes three-letter words of six letters, in pictures of 84x56 pixels with a cell of 28x28 a pair.
"""

from dataclasses import dataclass
from typing import ClassVar

from open_r1.rewards.cipher import decode_chars
from open_r1.tasks.decoder import CodedMessages
from open_r1.tasks.task import Task


@dataclass(frozen=True)
class CodedWords(CodedMessages):
    """One coded word in capitals and its decoder."""

    upper: ClassVar[bool] = True


DECODE_WORDS = Task(
    name="decode_words",
    method="decode",
    prompts={
        "think": "{question} First think in <think> </think> tags, with the decoded letters in <chars> </chars>, then "
        "give the word in <answer> </answer> tags, for example <think> <chars> C A T </chars> </think> "
        "<answer>CAT</answer>.",
        "direct": "{question} Give the decoded word in <answer> </answer> tags, for example <answer>CAT</answer>.",
    },
    rewards=("decode_chars", "decode_answer", "format", "decode_partial"),
    weights=(1.0, 1.0, 1.0, 1.0),
    measures={"chars": decode_chars},
    generator=CodedWords,
)
