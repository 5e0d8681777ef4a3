"""Rows -> batches for supervised fine-tuning: conversations with images, labels on the assistant's turns alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import ProcessorMixin

from open_r1.data.chat import image_count, messages, with_images
from open_r1.data.geometry.coordinates import from_original
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import Record
from open_r1.errors import UsageError, shorten
from open_r1.rewards.base import gold_text
from open_r1.rewards.gold import gold_completion
from open_r1.rewards.parsing.answer import extract_answer
from open_r1.rewards.referring import coordinate_frame, gold_box, image_wh
from open_r1.rollout.batching import merge_images
from open_r1.rollout.image_tokens import refuse_missing_images
from open_r1.rollout.prompts import Prompt, prompt_from_fields
from open_r1.trainer.forward.packing import blocks_of, lay_out

IGNORED = -100  # label of a token without loss
IN_PIXELS = ("rec", "iou")  # methods whose gold is a box in pixels of the original image


def taught_answer(record: Record) -> str:
    """What a model is taught to say to a row: its solution where that holds `<answer>` tags, else the gold answer in
    the tags of the prompt mode. A gold box of `rec` is written in the coordinates of the model's family.

    `record.extra` holds what `open_r1.rollout.annotation.annotator` adds. Raises DataError for a gold that is none.

    >>> taught_answer(Record("1", (), "", (), "3", {"prompt_mode": "direct"}))
    '<answer>3</answer>'
    >>> extra = {"prompt_mode": "direct", "model_family": "qwen3_vl", "image_wh": (640, 425)}
    >>> taught_answer(Record("1", (), "", (), "[64, 0, 128, 425]", extra, accu_reward_method="rec"))
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
    return [round(side) for side in from_original(gold_box(record), **coordinate_frame(record, image_wh(record)))]


@dataclass(frozen=True)
class Collator:
    """Rows `{"row": i}` of `records` -> model inputs (B, T), padded on the right, with `labels` and the `rows` (B,).

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
        pieces = [self.pieces(record, images) for record, images in zip(batch, pictures, strict=True)]
        texts = ["".join(piece.text for piece in row) for row in pieces]
        shown: Any = {"images": pictures} if any(pictures) else {}
        inputs = self.processor(
            text=texts,
            **shown,
            padding=True,
            padding_side="right",
            add_special_tokens=False,  # the chat template wrote them
            return_tensors="pt",
        )
        for record, ids, text, images in zip(batch, inputs["input_ids"], texts, pictures, strict=True):
            refuse_missing_images(record, ids, len(images), self.processor, text)
        labels = self.labels(inputs["input_ids"], inputs["attention_mask"], pieces)
        return {**inputs, "labels": labels, "rows": torch.tensor([row["row"] for row in rows])}

    def pieces(self, record: Record, images: Sequence[Any]) -> list["Piece"]:
        """What is shown and what is said in turn, as the chat template writes it, up to the end of the last turn.

        Raises UsageError for a chat template that writes a turn in another way once more turns follow.
        """
        chat = with_images(messages(record, self.instruction), images)
        chat.append({"role": "assistant", "content": [{"type": "text", "text": taught_answer(record)}]})
        whole, pieces, seen = self.processor.apply_chat_template(chat).rstrip(), [], 0
        for turn, message in enumerate(chat):
            if message["role"] == "assistant":
                asked = self.processor.apply_chat_template(chat[:turn], add_generation_prompt=True)
                answered = self.processor.apply_chat_template(chat[: turn + 1]).rstrip()
                if not (whole.startswith(answered) and answered.startswith(asked)):
                    got = f"a chat template that writes an answered prompt in another way: {shorten(whole)}"
                    raise UsageError(f"--model_name_or_path: got {got}, expected {shorten(asked)} and the answer")
                before = sum(len(piece.text) for piece in pieces)
                pieces += [
                    Piece(whole[before : len(asked)], image_parts(chat[seen:turn])),
                    Piece(answered[len(asked) :]),
                ]
                seen = turn
        return pieces

    def labels(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, pieces: Sequence[list["Piece"]]) -> torch.Tensor:
        """(B, T): the ids of what the assistant says, `IGNORED` elsewhere."""
        labels_BT = torch.full_like(ids_BT, IGNORED)
        for row, parts in enumerate(pieces):
            end = int(mask_BT[row].sum())
            for number in range(
                len(parts) - 1, 0, -1
            ):  # from the end, so that the first prompt's images stay uncounted
                tokens = self.tokens(parts[number])
                start = end - len(tokens)
                if ids_BT[row, start:end].tolist() != tokens:
                    said = shorten(parts[number].text)
                    raise UsageError(f"the tokenizer joins the end of a prompt with {said}: loss is off")
                if number % 2:
                    labels_BT[row, start:end] = ids_BT[row, start:end]
                end = start
        return labels_BT

    def tokens(self, piece: "Piece") -> list[int]:
        if not piece.images:
            return self.processor.tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        return self.processor(text=[piece.text], images=[list(piece.images)], add_special_tokens=False)["input_ids"][0]


@dataclass(frozen=True)
class Piece:
    """A stretch of a conversation's text with the images it shows; what is asked and what is said take turns."""

    text: str
    images: tuple[Any, ...] = ()


def image_parts(chat: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(part["image"] for message in chat for part in message["content"] if part["type"] == "image")


@dataclass(frozen=True)
class PackingCollator:
    """Batches of `rows` as one sequence (1, L) for `trainer.forward.shared_prefix`: each row a prefix up to the first
    token with loss, and one suffix; no row sees another, and nothing is padded.

    `rope` is the model's `get_rope_index` where it has one; `bidirectional`: images see themselves, which a suffix
    cannot hold. Raises UsageError for such a row.
    """

    rows: Collator
    rope: Callable[..., Any] | None
    bidirectional: bool = False

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        # all prefixes stand before all suffixes, and a model takes images in the order of their tokens: rows with
        # images behind an answer go last, and are suffixes but for their first token
        rows = sorted(rows, key=self.late)
        if self.bidirectional and rows and self.late(rows[-1]):
            where = self.rows.records[rows[-1]["row"]].where
            raise UsageError(f"{where}: --padding_free: got an image behind an answer, which cannot see itself there")
        fields = [self.rows([row]) for row in rows]
        labels = [field.pop("labels")[0] for field in fields]
        numbers = torch.cat([field.pop("rows") for field in fields])
        prompts = [prompt_from_fields(field, self.rope) for field in fields]
        starts = [1 if self.late(row) else first_loss(said) - 1 for row, said in zip(rows, labels, strict=True)]
        packed = pack_rows(prompts, labels, starts, self.bidirectional) | merge_images(prompts, packed=True)
        return packed | {"rows": numbers}

    def late(self, row: dict[str, int]) -> bool:
        """Does this row show an image behind an answer?"""
        chat = messages(self.rows.records[row["row"]])
        answered = next((i for i, message in enumerate(chat) if message["role"] == "assistant"), len(chat))
        return image_count(chat[answered:]) > 0


def first_loss(labels_T: torch.Tensor) -> int:
    return int((labels_T != IGNORED).nonzero()[0])


def pack_rows(
    rows: Sequence[Prompt], labels: Sequence[torch.Tensor], starts: Sequence[int], bidirectional: bool
) -> dict[str, Any]:
    """Whole rows of token ids and their labels (T,) -> inputs of one sequence; suffixes begin at `starts`."""
    cuts = list(zip(rows, starts, strict=True))
    ids = [row.ids[:n] for row, n in cuts] + [row.ids[n:-1] for row, n in cuts]
    positions = torch.cat(
        [row.positions[..., :n] for row, n in cuts] + [row.positions[..., n:-1] for row, n in cuts], dim=-1
    )
    shifted = torch.cat([said[n + 1 :] for said, n in zip(labels, starts, strict=True)])[None]
    heads = [replace(row, types={k: v[: n + 1] for k, v in row.types.items()}) for row, n in cuts]
    after = torch.tensor([len(row.ids) - 1 - n for row, n in cuts])
    blocks = blocks_of(heads) if bidirectional else None
    tokens = torch.cat(ids)[None]
    return {
        "input_ids": tokens,
        "position_ids": positions[None] if positions.ndim == 1 else positions[:, None],
        "attention_mask": torch.ones(1, 1, *tokens.shape),  # of four dimensions: models hand it on unread
        "labels": shifted,  # counted by transformers; `shift_labels` are what the loss is computed on
        "shift_labels": shifted,
        "shared_prefix": lay_out(torch.tensor(starts), after, torch.arange(len(rows)), blocks, tokens.device),
    }
