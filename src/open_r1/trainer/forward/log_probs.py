"""Log-probs of completions, by packed groups or by padded rows; the same numbers either way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from open_r1.models.loading import FAMILIES
from open_r1.rollout.prompts import Prompt, groups_of, merge_images
from open_r1.trainer.forward.packing import pack


@dataclass(frozen=True)
class Scored:
    """Of N completions padded to C: log-probs (N, C) and entropies (N, C) in nats, 0 where padded; a MoE loss."""

    logps: torch.Tensor
    entropies: torch.Tensor | None
    aux_loss: torch.Tensor | None


def in_parts(part: Callable[[slice], Scored], rows: int, size: int | None) -> Scored:
    """The scores of all rows, computed `size` rows at a time (None: all at once)."""
    size = size or rows
    parts = [part(slice(start, start + size)) for start in range(0, rows, size)]
    entropies = [p.entropies for p in parts if p.entropies is not None]
    losses = [p.aux_loss for p in parts if p.aux_loss is not None]
    return Scored(
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
) -> Scored:
    """One call of `model`, wrapped as the engine wants it; `backbone` is the bare VLM inside, without its head.

    `prompts` has one entry a row, the same object for rows of one group, None for a row to leave out; `completions`
    (N, C), of which the first `lengths[i]` tokens count. `shared`: packed groups, else padded rows. A row left out has
    log-probs 0 and the mean entropy of the others, so that a mean over all rows is one over the computed ones.
    """
    kept = [i for i, prompt in enumerate(prompts) if prompt is not None]
    rows = torch.tensor(kept, device=completions.device)
    present, counts = [prompts[i] for i in kept], [lengths[i] for i in kept]
    with vision_of(backbone, present, shared):
        how = partial(score_packed, backbone=backbone) if shared else score_rows
        scored = how(model, prompts=present, completions=completions[rows], lengths=counts, entropy=entropy, **options)
    if len(kept) == len(prompts):
        return scored
    logps = torch.zeros_like(completions, dtype=scored.logps.dtype).index_copy(0, rows, scored.logps)
    entropies = scored.entropies
    if entropy:
        mean = entropies.sum() / max(1, sum(counts))
        entropies = mean.expand(completions.shape).index_copy(0, rows, entropies)
    return Scored(logps, entropies, scored.aux_loss)


def score_packed(
    model: torch.nn.Module,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    entropy: bool,
    **options: Any,
) -> Scored:
    family = FAMILIES[backbone.config.model_type]
    packed = pack(prompts, completions, lengths, bidirectional=family.images_see_themselves)
    images = merge_images(groups_of(prompts)[0], packed=True)
    out = model(**packed.inputs, **images, **options, fused_lm_head=True)

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(completions.shape).index_put((packed.row, packed.column), values[0, packed.at])

    return Scored(rows(out.log_probs), rows(out.entropy) if entropy else None, out.aux_loss)


def score_rows(
    model: torch.nn.Module,
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    entropy: bool,
    **options: Any,
) -> Scored:
    """Prompts padded on the left, completions on the right, every image field once a row."""
    width = completions.shape[1]
    counted = (
        torch.arange(width, device=completions.device) < torch.tensor(lengths, device=completions.device)[:, None]
    )
    inputs = padded(prompts)
    ids = torch.cat([inputs["input_ids"], completions], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], counted.long()], dim=1)
    for name in prompts[0].types:
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, width))
    labels = ids.clone()
    labels[:, :-width] = -100
    labels[:, -width:].masked_fill_(~counted, -100)
    inputs |= {"input_ids": ids, "labels": labels} | merge_images(prompts, packed=False) | options
    out = model(**inputs, fused_lm_head=True)
    return Scored(out.log_probs[:, -width:], out.entropy[:, -width:] if entropy else None, out.aux_loss)


def padded(prompts: Sequence[Prompt], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Token fields of a batch of rows, padded on the left, and the attention mask that says where."""

    def left(rows: list[torch.Tensor], value: int = 0) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_side="left", padding_value=value)

    fields = {"input_ids": left([p.ids for p in prompts], pad_id)}
    fields["attention_mask"] = left([torch.ones_like(p.ids) for p in prompts])
    return fields | {name: left([p.types[name] for p in prompts]) for name in prompts[0].types}


def with_features(backbone: PreTrainedModel, prompt: Prompt) -> Prompt:
    """The prompt with its image features, computed once for all passes; for a frozen vision tower only."""
    if not prompt.images:
        return prompt
    with torch.no_grad():
        return replace(prompt, features=image_features(backbone, prompt.images))


def image_features(backbone: PreTrainedModel, images: dict[str, torch.Tensor]) -> Any:
    """The vision tower's output for a processor's image fields."""
    takes = signature(backbone.get_image_features).parameters
    fields = {name: value for name, value in images.items() if name in takes}
    return backbone.get_image_features(**fields, return_dict=True)


@contextmanager
def vision_of(backbone: PreTrainedModel, prompts: Sequence[Prompt], shared: bool) -> Iterator[None]:
    """Within it the vision tower answers with the prompts' features where they have them."""
    shown = [p for p in (groups_of(prompts)[0] if shared else prompts) if p.images]
    if not shown or shown[0].features is None:
        yield
        return
    features = joined([prompt.features for prompt in shown])
    backbone.get_image_features = lambda *args, **kwargs: features
    try:
        yield
    finally:
        del backbone.get_image_features


def joined(outputs: Sequence[Any]) -> SimpleNamespace:
    """Image features of several prompts as of one call: per image in lists, or images along dimension 0."""

    def join(name: str) -> Any:
        values = [getattr(output, name) for output in outputs]
        if torch.is_tensor(values[0]):
            return torch.cat(values)
        if name == "deepstack_features":  # a list over layers, images concatenated
            return [torch.cat(layer) for layer in zip(*values, strict=True)]
        return [image for value in values for image in value]

    names = [name for name in ("pooler_output", "deepstack_features") if hasattr(outputs[0], name)]
    return SimpleNamespace(**{name: join(name) for name in names})
