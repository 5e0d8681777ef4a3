"""Log-probs of completions, by packed groups or by padded rows, with equal results; and the trainer's passes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from open_r1.models.model_parts import bare_model
from open_r1.rollout.batching import merge_images, pad_positions, pad_prompts, pictured_in_order, rows_with_turns
from open_r1.rollout.device_copies import to_device
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import ToolTurns, counted_places
from open_r1.rollout.vision_features import precomputed_vision
from open_r1.trainer.forward.image_sight import image_sight
from open_r1.trainer.forward.packing import pack
from open_r1.trainer.forward.parts import parts_by_rows, parts_by_tokens
from open_r1.trainer.generation_batch import LossRows, Scores
from open_r1.trainer.protocols import RunTrainer


def joined(parts: Sequence[Scores], prompts: Sequence[Prompt | None], counts: Sequence[int]) -> Scores:
    """The scores of all rows, from those of parts; `counts` are the tokens of each row that count.

    Rows left out (None) have the mean entropy of the others, so that a mean over all rows is one over those computed.
    """
    entropies = [part.entropies for part in parts if part.entropies is not None]
    losses = [part.aux_loss for part in parts if part.aux_loss is not None]
    entropy = torch.cat(entropies) if entropies else None
    if entropies and not all(prompts):
        present = torch.tensor([prompt is not None for prompt in prompts], device=entropy.device)[:, None]
        counted = sum(count for prompt, count in zip(prompts, counts, strict=True) if prompt is not None)
        entropy = entropy.where(present, (entropy * present).sum() / max(1, counted))
    return Scores(torch.cat([p.logps for p in parts]), entropy, torch.stack(losses).mean() if losses else None)


def score(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt | None],
    completions: torch.Tensor,
    lengths: Sequence[int],
    shared: bool,
    entropy: bool = False,
    turns: Sequence[ToolTurns | None] = (),
    **options: Any,
) -> Scores:
    """Log-probs of completions by one call of `model`, in its engine's wrapper; `backbone`: the bare VLM without head.

    `prompts` has one entry a row, the same object for rows of one group, None for a row to leave out; `completions`
    (N, C), of which the first `lengths[i]` tokens are there. `shared`: packed groups, else padded rows. `turns`: what
    tools put into each completion, None for one without, empty where there is no tool; their tokens and pictures stand
    in its context. They have log-probs and entropies 0, and so has a row left out.
    """
    numbers = [i for i, prompt in enumerate(prompts) if prompt is not None]
    if len(numbers) == len(prompts):
        return score_present(model, backbone, prompts, completions, lengths, turns, shared, entropy, **options)
    rows = torch.tensor(numbers, device=completions.device)
    present_turns = [turns[i] for i in numbers] if turns else ()
    present = ([prompts[i] for i in numbers], completions[rows], [lengths[i] for i in numbers], present_turns)
    scores = score_present(model, backbone, *present, shared, entropy, **options)

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(completions.shape).index_copy(0, rows, values)

    return Scores(spread(scores.logps), spread(scores.entropies) if entropy else None, scores.aux_loss)


def score_present(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    turns: Sequence[ToolTurns | None],
    shared: bool,
    entropy: bool,
    **options: Any,
) -> Scores:
    """`score` of rows of which none is left out."""
    with precomputed_vision(backbone, prompts, shared, turns):
        score_all = partial(score_packed, backbone=backbone) if shared else score_rows
        batch = {"prompts": prompts, "completions": completions, "lengths": lengths, "turns": turns}
        return score_all(model, **batch, entropy=entropy, **options)


def score_packed(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    turns: Sequence[ToolTurns | None],
    entropy: bool,
    **options: Any,
) -> Scores:
    """Scores by packed groups: each prompt once, without padding."""
    packed = pack(prompts, completions, lengths, image_sight(backbone), turns)
    images = merge_images(pictured_in_order(prompts, turns, packed=True), packed=True)
    out = model(**packed.inputs, **images, **options, fused_lm_head=True)

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(completions.shape).index_put((packed.row, packed.column), values[0, packed.index])

    return Scores(rows(out.log_probs), rows(out.entropy) if entropy else None, out.aux_loss)


def score_rows(
    model: torch.nn.Module,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    turns: Sequence[ToolTurns | None],
    entropy: bool,
    own_positions: bool = False,
    **options: Any,
) -> Scores:
    """Scores by padded rows: prompts padded on the left, completions on the right, every image field once a row.

    A token's position is that of its row alone: some models count padding, and rotary positions that are normalized
    after they are turned (Hunyuan) are then not relative. With `own_positions` the model counts for itself.
    """
    width = completions.shape[1]
    there = torch.arange(width, device=completions.device) < torch.tensor(lengths, device=completions.device)[:, None]
    inputs = pad_prompts(prompts)
    ids = torch.cat([inputs["input_ids"], completions], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], there.long()], dim=1)
    for name in prompts[0].types:  # a completion is of the type of its prompt's last token, which is text
        inputs[name] = torch.cat([inputs[name], inputs[name][:, -1:].expand(-1, width)], dim=1)
    positions = pad_positions(prompts)
    following = positions[..., -1:] + torch.arange(1, width + 1, device=ids.device)
    for row, turn in enumerate(turns):
        if turn is not None:
            write_turns(row, turn, following, {name: inputs[name][:, -width:] for name in prompts[0].types})
    counted = to_device(counted_places(lengths, turns, width), ids.device) if any(turns) else there
    if not own_positions:
        inputs["position_ids"] = torch.cat([positions, following], dim=-1)
    labels = ids.clone()
    labels[:, :-width] = -100
    labels[:, -width:].masked_fill_(~counted, -100)
    images = merge_images(rows_with_turns(prompts, turns), packed=False)
    inputs |= {"input_ids": ids, "labels": labels} | images | options
    out = model(**inputs, fused_lm_head=True)
    return Scores(out.log_probs[:, -width:], out.entropy[:, -width:] if entropy else None, out.aux_loss)


def write_turns(row: int, turn: ToolTurns, positions: torch.Tensor, types: Mapping[str, torch.Tensor]) -> None:
    """Write what tools put into the completion of a row over `positions` (..., N, C) and `types` (N, C), which are
    those of text."""
    tokens = min(len(turn.scored), positions.shape[-1])
    begin = positions[..., row, :1].clone()
    positions[..., row, :tokens] = begin + turn.positions[..., :tokens]
    for name, values in types.items():
        values[row, :tokens] = turn.types[name][:tokens]


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
        rows = pixel_values or LossRows(self.batch.prompts, self.batch.turns)
        completions, lengths = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:].sum(dim=1).tolist()
        options = {"output_router_logits": True} if compute_aux_loss else {}
        batch = (rows.prompts, completions, lengths)
        options |= {"entropy": compute_entropy, "turns": rows.turns}
        scores = rows.scores or self.score_in_parts(model, *batch, batch_size, **options)
        rows.logps = scores.logps.detach()
        return scores.logps, scores.entropies, scores.aux_loss if compute_aux_loss else None

    def score_in_parts(
        self,
        model: torch.nn.Module,
        prompts: Sequence[Prompt | None],
        completions: torch.Tensor,
        lengths: Sequence[int],
        size: int | None = None,
        turns: Sequence[ToolTurns | None] = (),
        **options: Any,
    ) -> Scores:
        """`score_completions`, a part after the other: of `--tokens_per_forward` tokens, else of `size` rows.

        Of several parts with gradients none keeps activations: each is computed again in the backward pass, in which
        one at a time is in memory. The first alone goes through the engine's wrapper, whose forward is collective:
        ranks may have different numbers of parts.
        """
        budget, width = self.args.tokens_per_forward, completions.shape[1]
        shared = self.optimizations["shared_prefix"]
        parts = parts_by_tokens(prompts, lengths, width, budget, shared) if budget else []
        parts = parts or parts_by_rows(len(prompts), size)
        wrapped, inner = iter([model]), self.accelerator.unwrap_model(model) if budget else model

        def score_part(part: slice) -> Scores:
            network = next(wrapped, inner)
            rows = (prompts[part], completions[part], lengths[part])
            return self.score_completions(network, *rows, turns=turns[part], **options)

        counts = counted_places(lengths, turns, width).sum(dim=1).tolist() if any(turns) else lengths
        if len(parts) > 1 and budget and torch.is_grad_enabled():
            return joined([checkpoint(score_part, part, use_reentrant=False) for part in parts], prompts, counts)
        return joined([score_part(part) for part in parts], prompts, counts)

    def score_completions(
        self,
        model: torch.nn.Module,
        prompts: Sequence[Prompt | None],
        completions: torch.Tensor,
        lengths: Sequence[int],
        **options: Any,
    ) -> Scores:
        """`score` in this run's precision, with or without shared prefixes; `options` may say `shared` itself."""
        options = {"shared": self.optimizations["shared_prefix"], **options}
        with self.accelerator.autocast():
            return score(model, self.backbone_of(model), prompts, completions, lengths, **options)

    def backbone_of(self, model: torch.nn.Module) -> PreTrainedModel:
        """The VLM without its head, from inside the wrappers of engine and adapters."""
        return bare_model(self.accelerator.unwrap_model(model)).base_model
