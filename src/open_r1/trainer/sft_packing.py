"""Packs rows of supervised fine-tuning into one sequence without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from open_r1.data.chat import messages
from open_r1.errors import UsageError
from open_r1.rollout.batching import merge_images
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import Prompt, prompt_from_fields
from open_r1.trainer.forward.image_blocks import ImageSight, blocks_of
from open_r1.trainer.forward.packing import lay_out
from open_r1.trainer.sft_batches import IGNORED, Collator


@dataclass(frozen=True)
class PackingCollator:
    """Batches of `rows` as one sequence (1, L) for `trainer.forward.shared_prefix`: each row a prefix up to the first
    token with loss, and one suffix; no row sees another, and there is no padding.

    `fields`: how the model takes what the processor makes; `sight`: how images see themselves, which a suffix
    cannot hold. Raises UsageError for such a row.
    """

    rows: Collator
    fields: PromptFields
    sight: ImageSight = field(default_factory=ImageSight)

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        # all prefixes precede all suffixes, and a model takes images in the order of their tokens: rows with images
        # after an answer go last, and are suffixes except for their first token
        rows = sorted(rows, key=self.has_late_media)
        if self.sight and rows and self.has_late_media(rows[-1]):
            where = self.rows.records[rows[-1]["row"]].where
            raise UsageError(f"{where}: --padding_free: got an image behind an answer, which cannot see itself there")
        inputs = [self.rows([row]) for row in rows]
        labels = [values.pop("labels")[0] for values in inputs]
        numbers = torch.cat([values.pop("rows") for values in inputs])
        prompts = [prompt_from_fields(values, self.fields) for values in inputs]
        starts = [
            1 if self.has_late_media(row) else first_label(row_labels) - 1
            for row, row_labels in zip(rows, labels, strict=True)
        ]
        packed = pack_rows(prompts, labels, starts, self.sight) | merge_images(prompts, packed=True)
        return packed | {"rows": numbers}

    def has_late_media(self, row: dict[str, int]) -> bool:
        """Whether a row has a picture or a video after an answer."""
        chat = messages(self.rows.records[row["row"]])
        first_answer = next((i for i, message in enumerate(chat) if message["role"] == "assistant"), len(chat))
        return any(part["type"] != "text" for message in chat[first_answer:] for part in message["content"])


def first_label(labels_T: torch.Tensor) -> int:
    """The place of the first token with loss."""
    return int((labels_T != IGNORED).nonzero()[0])


def pack_rows(
    rows: Sequence[Prompt], labels: Sequence[torch.Tensor], starts: Sequence[int], sight: ImageSight
) -> dict[str, Any]:
    """Pack whole rows, token ids and their labels (T,), into inputs of one sequence; suffixes begin at `starts`."""
    cuts = list(zip(rows, starts, strict=True))
    ids = [row.ids[:n] for row, n in cuts] + [row.ids[n:-1] for row, n in cuts]
    positions = torch.cat(
        [row.positions[..., :n] for row, n in cuts] + [row.positions[..., n:-1] for row, n in cuts], dim=-1
    )
    shifted = torch.cat([row_labels[n + 1 :] for row_labels, n in zip(labels, starts, strict=True)])[None]
    heads = [replace(row, types={k: v[: n + 1] for k, v in row.types.items()}) for row, n in cuts]
    after = torch.tensor([len(row.ids) - 1 - n for row, n in cuts])
    blocks = blocks_of(heads) if sight else None
    tokens = torch.cat(ids)[None]
    return {
        "input_ids": tokens,
        "position_ids": positions[None] if positions.ndim == 1 else positions[:, None],
        "attention_mask": torch.ones(1, 1, *tokens.shape),  # of four dimensions: models hand it on unread
        "labels": shifted,  # counted by transformers; `shift_labels` are what the loss is computed on
        "shift_labels": shifted,
        "shared_prefix": lay_out(torch.tensor(starts), after, torch.arange(len(rows)), blocks, tokens.device, sight),
    }
