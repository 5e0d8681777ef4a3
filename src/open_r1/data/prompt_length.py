"""Lengths in tokens, images included, from image headers alone where the processor can tell; rows that are too long
are refused before training, never cut. (torch-free)

A million rows are not tokenized for that. A row is measured where an upper bound of its length is over the limit:
bytes of text, which are at least as many as tokens where a tokenizer neither splits bytes nor writes a character as
several (byte-level BPE and SentencePiece with byte fallback do not; a normalizer such as NFKC can, for a few rare
characters), plus what the chat template adds, plus the most tokens that the processor makes of a picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt
from typing import Any

from rich.console import Console
from rich.progress import track

from open_r1.data.chat import messages
from open_r1.data.geometry.coordinates import shown_size, smart_resize
from open_r1.data.images import load_images, original_size
from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import DataError, Problem

ANSWER_TAGS = 128  # bytes that a taught answer has around the solution, at most
BEGINNING = 16  # tokens that a tokenizer puts before a text, at most
WIDEST = 200  # aspect ratio
# Large pictures of many shapes (height, width), for processors that cut pictures into so many tiles at most.
LARGE_PICTURES = [(1200 * h, 1200 * w) for h in range(1, 13) for w in range(1, 13)]


@dataclass(frozen=True)
class Limit:
    """Most tokens of a row; `expected` and `remedy` are what the message says of it.

    `spans`: M-RoPE, in which a picture takes as many positions as its longer side has tokens. `answered`: where an
    answer is taught, it counts too.
    """

    tokens: int
    expected: str
    remedy: str
    spans: bool = False
    answered: bool = True


def prompt_tokens(record: Record, processor: Any, instruction: str | None, answer: str | None = None) -> int:
    """Tokens of the prompt as the model gets it, each image's tag expanded as the (transformers) processor does, and
    of an answer behind it.

    Pictures are decoded only for a processor that cannot count the tokens of a size.
    """
    chat = messages(record, instruction)
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    text = processor.apply_chat_template(chat, add_generation_prompt=answer is None, tokenize=False)
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return len(processor(text=[text], images=load_images([record])[0] or None)["input_ids"][0])
    tokens, sizes = len(processor.tokenizer(text)["input_ids"]), sizes_of(record)
    if not sizes:
        return tokens
    expanded = processor._get_num_multimodal_tokens(image_sizes=[(height, width) for width, height in sizes])
    return tokens + sum(expanded["num_image_tokens"]) - len(sizes)  # each image's tag is one token of the text


def sizes_of(record: Record) -> list[tuple[int, int]]:
    """(width, height) in pixels of each picture as the processor gets it."""
    return [shown_size(original_size(record.folder, path, where=record.where)) for path in record.images]


def positions_saved(record: Record, processor: Any) -> int:
    """How many positions fewer than tokens a prompt takes with M-RoPE, for processors that resize by area."""
    images = processor.image_processor
    factor = images.patch_size * images.merge_size
    limits = (images.size["shortest_edge"], images.size["longest_edge"])
    resized = [smart_resize(height, width, factor, *limits) for width, height in sizes_of(record)]
    return sum(h * w // factor**2 - max(h, w) // factor for h, w in resized)


class Bound:
    """At least as many tokens as a row has, without tokenizing it; `answered`: with its taught answer.

    Conversations of one shape (roles and pictures of the turns) get the same from the chat template, which is
    rendered once for each shape.
    """

    def __init__(self, processor: Any, instruction: str | None, answered: bool):
        self.processor, self.instruction, self.answered = processor, instruction, answered
        self.picture = most_image_tokens(processor)
        self.around: dict[Any, int] = {}

    def __call__(self, record: Record) -> float:
        shape = (*((turn.role, turn.text.count(IMAGE_TAG)) for turn in record.turns), len(record.images))
        if shape not in self.around:
            self.around[shape] = self._around(record)
        said = sum(len(turn.text.encode("utf-8", "surrogatepass")) for turn in record.turns)
        if self.answered:
            said += len(record.solution.encode("utf-8", "surrogatepass")) + ANSWER_TAGS
        shown = self.picture * len(record.images) if record.images else 0  # not inf * 0
        return self.around[shape] + said + shown

    def _around(self, record: Record) -> int:
        """Bytes of a conversation of this shape in which each turn says "." around its pictures."""
        texts = [IMAGE_TAG.join("." * (turn.text.count(IMAGE_TAG) + 1)) for turn in record.turns]
        turns = tuple(replace(turn, text=text) for turn, text in zip(record.turns, texts, strict=True))
        chat = messages(replace(record, turns=turns), self.instruction)
        chat += [{"role": "assistant", "content": [{"type": "text", "text": "."}]}] * self.answered
        text = self.processor.apply_chat_template(chat, add_generation_prompt=not self.answered, tokenize=False)
        return len(text.encode()) + BEGINNING


def most_image_tokens(processor: Any) -> float:
    """The most tokens that the processor makes of a picture; infinite where it cannot count them.

    A theorem for processors that resize by area (each side is rounded to whole tokens, with aspect ratios up to
    `WIDEST`); for those that cut tiles the largest of many shapes and a tenth more.
    """
    images = getattr(processor, "image_processor", None)
    if hasattr(images, "merge_size"):
        area = max(images.size["longest_edge"], images.size["shortest_edge"])
        tokens = area / (images.patch_size * images.merge_size) ** 2
        return ceil(tokens + (sqrt(WIDEST) + 2) * sqrt(tokens) + 2)
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return inf
    return ceil(1.1 * max(processor._get_num_multimodal_tokens(image_sizes=LARGE_PICTURES)["num_image_tokens"]))


def too_long(
    records: Iterable[Record],
    processor: Any,
    instruction: str | None,
    limits: Sequence[Limit],
    answer: Callable[[Record], str] | None = None,
) -> Iterator[tuple[Problem, int, Limit]]:
    """(Problem, length, limit) of each row whose prompt, with its answer where one is given, is over a limit."""
    bound, least = Bound(processor, instruction, answer is not None), min(limit.tokens for limit in limits)
    for record in records:
        if bound(record) <= least:
            continue
        for limit in limits:
            said = answer(record) if answer and limit.answered else None
            length = prompt_tokens(record, processor, instruction, said)
            if limit.spans and length > limit.tokens:
                length -= positions_saved(record, processor)
            if length > limit.tokens:
                got, remedy = f"{length} tokens (id {record.id})", limit.remedy.format(length=length)
                yield Problem(record.where, "prompt", got, limit.expected, remedy), length, limit
                break


def refuse_long_prompts(
    records: Sequence[Record],
    processor: Any,
    instruction: str | None,
    limits: Sequence[Limit],
    answer: Callable[[Record], str] | None = None,
) -> None:
    """Raises DataError naming every row whose prompt, and answer where one is given, is over one of the limits."""
    if not limits:
        return
    shown = track(records, "measuring prompts", console=Console(stderr=True), transient=True)
    found = list(too_long(shown, processor, instruction, limits, answer))
    if found:
        _, longest, limit = max(found, key=lambda each: each[1])
        count, remedy = f"{len(found):,} of {len(records):,} rows", limit.remedy.format(length=longest)
        first = Problem(count, "prompt", f"up to {longest} tokens", limit.expected, remedy)
        raise DataError([first, *(problem for problem, _, _ in found)])


def given_limit(tokens: int) -> Limit:
    """`--max_prompt_length`."""
    remedy = "raise --max_prompt_length to {length}, lower --max_pixels, or remove the row"
    return Limit(tokens, f"at most {tokens}", remedy, answered=False)
