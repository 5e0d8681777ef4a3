"""Log-probs of completions, by packed groups or by padded rows, with equal results; and the trainer's passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from open_r1.models.families import FAMILIES, bare_model
from open_r1.rollout.batching import groups_of, merge_images, pad_prompts
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.vision_features import precomputed_vision
from open_r1.trainer.forward.packing import pack
from open_r1.trainer.generation_batch import LossRows
from open_r1.trainer.protocols import RunTrainer


@dataclass(frozen=True)
class Scores:
    """Scores of N completions padded to C: log-probs (N, C) and entropies (N, C) in nats, 0 at padding; MoE loss."""

    logps: torch.Tensor
    entropies: torch.Tensor | None
    aux_loss: torch.Tensor | None


def score_in_parts(part: Callable[[slice], Scores], rows: int, size: int | None) -> Scores:
    """The scores of all rows, computed `size` rows at a time (None: all at once)."""
    size = size or rows
    parts = [part(slice(start, start + size)) for start in range(0, rows, size)]
    entropies = [p.entropies for p in parts if p.entropies is not None]
    losses = [p.aux_loss for p in parts if p.aux_loss is not None]
    return Scores(
        torch.cat([p.logps for p in parts]),
        torch.cat(entropies) if entropies else None,
        torch.stack(losses).mean() if losses else None,
    )


def score(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt | None],
    completions: torch.Tensor,
    lengths: Sequence[int],
    shared: bool,
    entropy: bool = False,
    **options: Any,
) -> Scores:
    """Log-probs of completions by one call of `model`, in its engine's wrapper; `backbone`: the bare VLM without head.

    `prompts` has one entry a row, the same object for rows of one group, None for a row to leave out; `completions`
    (N, C), of which the first `lengths[i]` tokens count. `shared`: packed groups, else padded rows. A row left out has
    log-probs 0 and the mean entropy of the others, so that a mean over all rows is one over the computed ones.
    """
    numbers = [i for i, prompt in enumerate(prompts) if prompt is not None]
    rows = torch.tensor(numbers, device=completions.device)
    present, counts = [prompts[i] for i in numbers], [lengths[i] for i in numbers]
    with precomputed_vision(backbone, present, shared):
        score_all = partial(score_packed, backbone=backbone) if shared else score_rows
        batch = {"prompts": present, "completions": completions[rows], "lengths": counts}
        scores = score_all(model, **batch, entropy=entropy, **options)
    if len(numbers) == len(prompts):
        return scores
    logps = torch.zeros_like(completions, dtype=scores.logps.dtype).index_copy(0, rows, scores.logps)
    entropies = scores.entropies
    if entropy:
        mean = entropies.sum() / max(1, sum(counts))
        entropies = mean.expand(completions.shape).index_copy(0, rows, entropies)
    return Scores(logps, entropies, scores.aux_loss)


def score_packed(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    entropy: bool,
    **options: Any,
) -> Scores:
    """Scores by packed groups: each prompt once, without padding."""
    family = FAMILIES[backbone.config.model_type]
    packed = pack(prompts, completions, lengths, bidirectional=family.images_see_themselves)
    images = merge_images(groups_of(prompts)[0], packed=True)
    out = model(**packed.inputs, **images, **options, fused_lm_head=True)

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(completions.shape).index_put((packed.row, packed.column), values[0, packed.index])

    return Scores(rows(out.log_probs), rows(out.entropy) if entropy else None, out.aux_loss)


def score_rows(
    model: torch.nn.Module,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    entropy: bool,
    **options: Any,
) -> Scores:
    """Scores by padded rows: prompts padded on the left, completions on the right, every image field once a row."""
    width = completions.shape[1]
    counted = (
        torch.arange(width, device=completions.device) < torch.tensor(lengths, device=completions.device)[:, None]
    )
    inputs = pad_prompts(prompts)
    ids = torch.cat([inputs["input_ids"], completions], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], counted.long()], dim=1)
    for name in prompts[0].types:
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, width))
    labels = ids.clone()
    labels[:, :-width] = -100
    labels[:, -width:].masked_fill_(~counted, -100)
    inputs |= {"input_ids": ids, "labels": labels} | merge_images(prompts, packed=False) | options
    out = model(**inputs, fused_lm_head=True)
    return Scores(out.log_probs[:, -width:], out.entropy[:, -width:] if entropy else None, out.aux_loss)


def computation_bytes(trainer: RunTrainer) -> int:
    """Bytes of a number in the forward passes of a run: 2 for bfloat16 and float16, else 4."""
    is_half = trainer.accelerator.mixed_precision in ("bf16", "fp16") or trainer.model.dtype.itemsize == 2
    return 2 if is_half else 4


class LogProbPasses:
    """Mixin, before TRL's class: log-probs of old, reference and policy passes, with or without shared prefixes."""

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        pixel_values: LossRows | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """As TRL's: log-probs (N, C), entropies (N, C), MoE loss. A loss sends its rows as `pixel_values`; else the
        rows are those of the generation in progress."""
        if pixel_values is None and self.batch.skip_old_pass:
            self.batch.skip_old_pass = False
            return None, None, None
        rows = pixel_values or LossRows(self.batch.prompts)
        completions, lengths = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:].sum(dim=1).tolist()
        options = {"output_router_logits": True} if compute_aux_loss else {}

        def score_part(part: slice) -> Scores:
            batch = (rows.prompts[part], completions[part], lengths[part])
            return self.score_completions(model, *batch, entropy=compute_entropy, **options)

        scores = score_in_parts(score_part, len(rows.prompts), batch_size)
        rows.logps = scores.logps.detach()
        return scores.logps, scores.entropies, scores.aux_loss if compute_aux_loss else None

    def score_completions(
        self,
        model: torch.nn.Module,
        prompts: Sequence[Prompt | None],
        completions: torch.Tensor,
        lengths: Sequence[int],
        **options: Any,
    ) -> Scores:
        """`score` in this run's precision, with or without shared prefixes."""
        with self.accelerator.autocast():
            backbone, shared = self.backbone_of(model), self.optimizations["shared_prefix"]
            return score(model, backbone, prompts, completions, lengths, shared=shared, **options)

    def backbone_of(self, model: torch.nn.Module) -> PreTrainedModel:
        """The VLM without its head, from inside the wrappers of engine and adapters."""
        return bare_model(self.accelerator.unwrap_model(model)).base_model
