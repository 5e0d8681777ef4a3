"""The task `decode_sequences`, after r1_vlm: decode one to three lower case words, `_` for the spaces.

    python local_scripts/make_dataset.py decode_sequences --out data/decode_sequences --rows 10000 --words words.txt

`_` is not coded and in no pair of the decoder.
"""

from dataclasses import dataclass, field

from open_r1.rewards.cipher import decode_chars
from open_r1.tasks.decoder import CodedMessages
from open_r1.tasks.task import Task


@dataclass(frozen=True)
class CodedSequences(CodedMessages):
    """One to three coded words and their decoder."""

    size: int = field(default=400, metadata={"help": "Width of the picture in pixels; it is no higher than wide."})
    max_words: int = field(default=3, metadata={"help": "A message has one to this many words."})


DECODE_SEQUENCES = Task(
    name="decode_sequences",
    method="decode",
    prompts={
        "think": "{question} First think in <think> </think> tags, with the decoded letters in <chars> </chars>, then "
        "give the message in <answer> </answer> tags; write _ for each space. For example: <think> <chars> c a t "
        "_ d o g </chars> </think> <answer>cat_dog</answer>.",
        "direct": "{question} Give the decoded message in <answer> </answer> tags; write _ for each space, for "
        "example <answer>cat_dog</answer>.",
    },
    rewards=("decode_chars", "decode_answer", "format", "decode_partial"),
    weights=(1.0, 1.0, 1.0, 1.0),
    measures={"chars": decode_chars},
    generator=CodedSequences,
)
