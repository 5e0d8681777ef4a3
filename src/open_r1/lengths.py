"""Prompt lengths in tokens, images included, from image headers alone where the processor can tell. (torch-free)"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track

from open_r1.conversation import messages
from open_r1.coordinates import shown_size
from open_r1.errors import DataError, Problem
from open_r1.images import load_images, original_size
from open_r1.rows import Record


def prompt_tokens(record: Record, processor: Any, instruction: str | None) -> int:
    """Tokens of the prompt as the model gets it, each image's tag expanded as the (transformers) processor does.

    Pictures are decoded only for a processor that cannot count the tokens of a size.
    """
    text = processor.apply_chat_template(messages(record, instruction), add_generation_prompt=True, tokenize=False)
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return len(processor(text=[text], images=load_images([record])[0] or None)["input_ids"][0])
    tokens = len(processor.tokenizer(text)["input_ids"])
    sizes = [shown_size(original_size(record.folder, path, where=record.where)) for path in record.images]
    if not sizes:
        return tokens
    expanded = processor._get_num_multimodal_tokens(image_sizes=[(height, width) for width, height in sizes])
    return tokens + sum(expanded["num_image_tokens"]) - len(sizes)  # each image's tag is one token of the text


def too_long(records: Iterable[Record], processor: Any, instruction: str, limit: int) -> Iterator[Problem]:
    """A Problem for each row whose prompt is over `limit` tokens."""
    for record in records:
        length = prompt_tokens(record, processor, instruction)
        if length > limit:
            remedy = f"raise --max_prompt_length to {length}, lower --max_pixels, or remove the row"
            yield Problem(record.where, "prompt", f"{length} tokens", f"at most {limit}", remedy)


def refuse_long_prompts(records: Sequence[Record], processor: Any, instruction: str, limit: int) -> None:
    """Raises DataError naming every row whose prompt is over `limit` tokens."""
    shown = track(records, "measuring prompts", console=Console(stderr=True), transient=True)
    problems = list(too_long(shown, processor, instruction, limit))
    if problems:
        raise DataError(problems)
