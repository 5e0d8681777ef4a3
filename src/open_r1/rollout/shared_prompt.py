"""Decoding over a prompt's keys and values kept once, however many completions continue it, exactly.

The cache of a group holds the prompt's keys and values in one row and those of completion tokens in a row each. A new
token's scores over both are joined before one softmax, the queries of a group being one matrix against its prompt, so
that the prompt is read from memory once a token and group. In 16 bits prompts are repeated instead: another order of
additions than sdpa's moves log-probs by 0.006 nats a token there, which training's passes would not follow.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.rollout.prompt_cache import PreallocatedLayer

SHARED_PROMPT = "shared_prompt"  # in transformers' attention registry


@dataclass(frozen=True)
class Groups:
    """Rows of B prompts: `prompt_of_row` (R,), `members` (B, G) rows of each prompt, smaller groups filled up with
    their first; `places` (R,) a row's place in them, None if groups are equal and in order; `mask` (B, 1, 1, P) the
    prompts' tokens, None if there is no padding."""

    prompt_of_row: torch.Tensor
    members: torch.Tensor
    places: torch.Tensor | None
    mask: torch.Tensor | None

    @classmethod
    def of(cls, prompt_of_row: Sequence[int], mask: torch.Tensor | None, device: torch.device) -> "Groups":
        rows_of = [
            [row for row, p in enumerate(prompt_of_row) if p == prompt] for prompt in range(max(prompt_of_row) + 1)
        ]
        largest = max(map(len, rows_of))
        members = [rows + rows[:1] * (largest - len(rows)) for rows in rows_of]
        places = [prompt * largest + rows_of[prompt].index(row) for row, prompt in enumerate(prompt_of_row)]
        in_order = places == list(range(len(rows_of) * largest))
        tensors = [torch.tensor(values, device=device) for values in (prompt_of_row, members, places)]
        return cls(*tensors[:2], None if in_order else tensors[2], mask)

    def select(self, rows: torch.Tensor) -> tuple["Groups", torch.Tensor]:
        """The groups of these rows, and which prompts still have one."""
        prompts, renumbered = self.prompt_of_row[rows].unique(return_inverse=True)
        mask = None if self.mask is None else self.mask[prompts]
        return Groups.of(renumbered.tolist(), mask, rows.device), prompts

    def gather(self, states: torch.Tensor) -> torch.Tensor:
        """(R, K, h, X) -> (B, K, G x h, X)."""
        grouped = states[self.members] if self.places is not None else states.unflatten(0, self.members.shape)
        return grouped.transpose(1, 2).flatten(2, 3)

    def scatter(self, states: torch.Tensor) -> torch.Tensor:
        """(B, K, G x h, X) -> (R, K, h, X)."""
        rows = states.unflatten(2, (self.members.shape[1], -1)).transpose(1, 2).flatten(0, 1)
        return rows if self.places is None else rows[self.places]


class SharedPromptLayer(PreallocatedLayer):
    """Keys and values of prompts (B, K, P, D), and in `keys` and `values` those of completion tokens (R, K, S, D).

    `update` returns the latter; the keys have the layer as attribute `layer`, by which attention finds the prompts.
    """

    def __init__(self, prompt_keys: torch.Tensor, prompt_values: torch.Tensor, groups: Groups):
        super().__init__()
        self.prompt_keys, self.prompt_values, self.groups = prompt_keys, prompt_values, groups
        self.attended = True

    def update(self, *states: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        refuse_unless(self.attended)
        keys, values = super().update(*states, **kwargs)
        keys.layer, self.attended = self, False
        return keys, values

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[-2] + (self.keys.shape[-2] if self.is_initialized else 0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.groups, prompts = self.groups.select(indices)
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]
        if self.is_initialized:
            self.keys, self.values, self.room = self.keys[indices], self.values[indices], None

    def whole(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Keys and values (R, K, P + S, D) with the prompt repeated for each row, and their mask (R, 1, 1, P + S)."""
        of_row = self.groups.prompt_of_row
        pairs = ((self.prompt_keys, self.keys), (self.prompt_values, self.values))
        keys, values = (torch.cat([prompts[of_row], own], dim=2) for prompts, own in pairs)
        mask = self.groups.mask
        if mask is not None:
            mask = torch.nn.functional.pad(mask[of_row], (0, self.keys.shape[-2]), value=True)
        return keys, values, mask


def why_prompts_are_repeated(backbone: PreTrainedModel, cache: DynamicCache, rows: int) -> str | None:
    """Why each row needs a copy of its prompt's keys and values, or None."""
    text = backbone.config.get_text_config(decoder=True)
    implementation = text._attn_implementation
    if getattr(text, "kv_lora_rank", None):
        return "keys are made from the cache's latents after it"
    if not (implementation == "sdpa" or implementation.startswith("shared_prefix")):
        return f"attention is {implementation}"
    attention = [layer for layer in cache.layers if type(layer) is not LinearAttentionLayer]
    if other := sorted({type(layer).__name__ for layer in attention if type(layer) is not PreallocatedLayer}):
        return f"keys and values are in {', '.join(other)}"  # a window drops them row by row
    keys = attention[0].keys
    if keys.dtype.itemsize < 4 or torch.is_autocast_enabled(keys.device.type):
        return "attention is computed in 16 bits, where another order of additions shows in log-probs"
    if rows < 2 * len(keys):
        return "groups are too small to gain from it"
    return None


def share_prompts(cache: DynamicCache, prompt_of_row: Sequence[int], mask: torch.Tensor) -> None:
    """Give each row of completions its prompt in the cache of prompts (B rows), without copying keys and values.

    `mask` (B, P) is 1 for a token of a prompt and 0 for padding.
    """
    visible = None if mask.all() else mask.bool()[:, None, None]
    groups = Groups.of(prompt_of_row, visible, mask.device)
    for number, layer in enumerate(cache.layers):
        if type(layer) is PreallocatedLayer:
            cache.layers[number] = SharedPromptLayer(layer.keys, layer.values, groups)
        else:
            layer.reorder_cache(groups.prompt_of_row)


@contextmanager
def attention_to_prompts(backbone: PreTrainedModel, cache: DynamicCache) -> Iterator[None]:
    """Inside this context the text model attends to a cache whose prompts are shared; to others as before."""
    if not any(isinstance(layer, SharedPromptLayer) for layer in cache.layers):
        yield
        return
    AttentionInterface.register(SHARED_PROMPT, attend_to_prompts)
    AttentionMaskInterface.register(SHARED_PROMPT, no_mask)
    text = backbone.config.get_text_config(decoder=True)
    configs = [m.config for m in backbone.modules() if isinstance(getattr(m, "config", None), type(text))]
    before = [(config, config._attn_implementation) for config in {id(config): config for config in configs}.values()]
    for config, _ in before:
        config._attn_implementation = SHARED_PROMPT
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


def no_mask(*args: Any, **kwargs: Any) -> None:
    """No mask: one new token a row sees all of it but padding, which `Groups` knows."""
    return None


def attend_to_prompts(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row: query (R, H, 1, D) over its prompt and its own tokens -> (R, 1, H, D)."""
    layer = getattr(key, "layer", None)
    refuse_unless(isinstance(layer, SharedPromptLayer))
    layer.attended = True
    if dropout or position_bias is not None:
        keys, values, mask = layer.whole()
        kwargs |= {"scaling": scaling, "dropout": dropout, "position_bias": position_bias}
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, keys, values, mask, **kwargs)
    return attend_prompts(query, key, value, layer, scaling), None


def attend_prompts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: SharedPromptLayer, scaling: float | None
) -> torch.Tensor:
    """(R, H, 1, D) over prompts and completions -> (R, 1, H, D)."""
    groups, scale = layer.groups, query.shape[-1] ** -0.5 if scaling is None else scaling
    q = query[:, :, 0].unflatten(1, (key.shape[1], -1)) * scale  # (R, K, H / K, D)
    of_prompt = groups.gather(q) @ layer.prompt_keys.transpose(-1, -2)
    if groups.mask is not None:
        of_prompt = of_prompt.masked_fill(~groups.mask, -torch.inf)
    own = groups.gather(q @ key.transpose(-1, -2))
    weights = torch.cat([of_prompt, own], dim=-1).softmax(dim=-1)
    of_prompt, own = weights.split([of_prompt.shape[-1], own.shape[-1]], dim=-1)
    out = groups.scatter(of_prompt @ layer.prompt_values) + groups.scatter(own) @ value
    return out.flatten(1, 2)[:, None]


def refuse_unless(attended: bool) -> None:
    """Raises RuntimeError where keys did not come from the cache to the attention as they were."""
    if not attended:
        raise RuntimeError(
            "rollouts: the model changes keys between its cache and its attention function, so that completions "
            "cannot share their prompt's; start again with --prefill_once false"
        )
