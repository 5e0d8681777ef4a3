"""Greedy answers of a model on records, scored by the same parser and rewards as training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.conversation import fill, messages
from open_r1.images import load_images
from open_r1.records import Record


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % Wilson interval (Wilson 1927), all in [0, 1]."""

    accuracy: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n})"


def wilson(right: int, n: int, z: float = 1.96) -> Interval:
    """Wilson's score interval of `right` out of `n`; raises ValueError for n = 0.

    >>> print(wilson(9, 10))
    0.900 [0.596, 0.982] (n = 10)
    """
    if n == 0:
        raise ValueError("an interval needs at least one row, got 0")
    share, shrink = right / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


@torch.inference_mode()
def answer_batches(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: Sequence[Record],
    instruction: str,
    batch_size: int,
    max_new_tokens: int,
) -> Iterator[list[tuple[Record, str, int]]]:
    """Greedy completions, a batch at a time: (record, text, tokens including the end token)."""
    for start in range(0, len(records), batch_size):
        batch = [records[i] for i in range(start, min(start + batch_size, len(records)))]
        completions_BC = generate(model, processor, batch, instruction, max_new_tokens)
        texts = processor.batch_decode(completions_BC, skip_special_tokens=True)
        lengths = (completions_BC != processor.tokenizer.pad_token_id).sum(dim=1).tolist()
        yield list(zip(batch, texts, lengths, strict=True))


def generate(
    model: PreTrainedModel, processor: ProcessorMixin, batch: list[Record], instruction: str, max_new_tokens: int
) -> torch.Tensor:
    """Completion token ids (B, C) of one batch, prompts cut off, padded on the right with the pad token."""
    pictures = load_images(batch)
    prompts = [fill(messages(r, instruction), images) for r, images in zip(batch, pictures, strict=True)]
    inputs: Any = processor.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    inputs = inputs.to(model.device)
    out = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
    )
    return out[:, inputs["input_ids"].shape[1] :]
