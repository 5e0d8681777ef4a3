"""Rows -> batches for supervised fine-tuning: prompt with images, gold completion, labels on the completion alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import ProcessorMixin

from open_r1.answers import extract_answer
from open_r1.conversation import fill, messages
from open_r1.coordinates import from_original
from open_r1.errors import UsageError, shorten
from open_r1.images import load_images
from open_r1.records import Record
from open_r1.rewards import gold_completion
from open_r1.rewards.base import gold_text
from open_r1.rewards.boxes import frame, gold_box, image_wh

IGNORED = -100  # label of a token without loss
IN_PIXELS = ("rec", "iou")  # methods whose gold is a box in pixels of the original image


def taught(record: Record) -> str:
    """What a model is taught to say to a row: its solution where that holds `<answer>` tags, else the gold answer in
    the tags of the prompt mode. A gold box of `rec` is written in the coordinates of the model's family.

    `record.extra` holds what `open_r1.trainer.run.annotator` adds. Raises DataError for a gold that is none.

    >>> taught(Record("1", (), "", (), "3", {"prompt_mode": "direct"}))
    '<answer>3</answer>'
    >>> taught(Record("1", (), "", (), "[64, 0, 128, 425]", {"prompt_mode": "direct", "model_family": "qwen3_vl",
    ...     "image_wh": (640, 425)}, accu_reward_method="rec"))
    '<answer>[100, 0, 200, 1000]</answer>'
    """
    if extract_answer(record.solution) is not None:
        return record.solution
    if record.accu_reward_method in IN_PIXELS:
        record = replace(record, solution=str(family_box(record)))
    if record.extra.get("prompt_mode") == "direct":
        return f"<answer>{gold_text(record)}</answer>"
    return gold_completion(record)


def family_box(record: Record) -> list[int]:
    """The gold box in the model family's coordinates, rounded."""
    return [round(side) for side in from_original(gold_box(record), **frame(record, image_wh(record)))]


@dataclass(frozen=True)
class Collator:
    """Rows `{"row": i}` of `records` -> model inputs (B, T), padded on the right, with `labels`.

    Images are opened here, so in the data loader's workers where there are any. Nothing is truncated.
    """

    records: Sequence[Record]
    processor: ProcessorMixin
    instruction: str
    annotate: Callable[[Record], Record]
    image_workers: int = 4

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        batch = [self.annotate(self.records[row["row"]]) for row in rows]
        pictures = load_images(batch, workers=self.image_workers)
        prompts, said = zip(*(self.texts(r, images) for r, images in zip(batch, pictures, strict=True)), strict=True)
        shown: Any = {"images": pictures} if any(pictures) else {}
        inputs = self.processor(
            text=[prompt + answer for prompt, answer in zip(prompts, said, strict=True)],
            **shown,
            padding=True,
            padding_side="right",
            add_special_tokens=False,  # the chat template wrote them
            return_tensors="pt",
        )
        return {**inputs, "labels": self.labels(inputs["input_ids"], inputs["attention_mask"], said)}

    def texts(self, record: Record, images: Sequence[Any]) -> tuple[str, str]:
        """(prompt, completion up to and with the end of its turn), as the chat template writes them."""
        chat = fill(messages(record, self.instruction), images)
        answer = {"role": "assistant", "content": [{"type": "text", "text": taught(record)}]}
        prompt = self.processor.apply_chat_template(chat, add_generation_prompt=True)
        whole = self.processor.apply_chat_template([*chat, answer])
        if not whole.startswith(prompt):
            got = f"a chat template that writes an answered prompt in another way: {shorten(whole)}"
            raise UsageError(f"--model_name_or_path: got {got}, expected {shorten(prompt)} and the answer behind it")
        return prompt, whole[len(prompt) :].rstrip()

    def labels(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, said: Sequence[str]) -> torch.Tensor:
        """(B, T): the ids of the completions, `IGNORED` elsewhere."""
        labels_BT = torch.full_like(ids_BT, IGNORED)
        completions = self.processor.tokenizer(list(said), add_special_tokens=False)["input_ids"]
        for row, tokens in enumerate(completions):
            end = int(mask_BT[row].sum())
            if ids_BT[row, end - len(tokens) : end].tolist() != tokens:
                raise UsageError(f"the tokenizer joins the end of a prompt with {shorten(said[row])}: loss is off")
            labels_BT[row, end - len(tokens) : end] = ids_BT[row, end - len(tokens) : end]
        return labels_BT
