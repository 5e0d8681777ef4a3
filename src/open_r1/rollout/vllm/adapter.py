"""The policy's LoRA adapter alone, as vLLM takes it: the few MB that change, beside base weights that stay.

What vLLM's LoRA cannot hold is refused before a model is loaded, by flags (`config.validation`) or by an adapter's own
configuration; layers that its model does not adapt by `adapter_engine.apply_adapter`, when the engine starts.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from open_r1.errors import UsageError
from open_r1.models.model_parts import bare_model
from open_r1.rollout.vllm.checkpoint_names import Weights, published_name
from open_r1.rollout.vllm.policy_weights import Gather, Shape, whole_shape

ACTIVE = "default"  # the trained adapter; a second one may be the reference
# Settings of an adapter's configuration that vLLM's LoRA has not.
UNKNOWN = ("rank_pattern", "alpha_pattern", "use_dora", "modules_to_save", "target_parameters", "lora_bias")


def refuse_adapter_sync(name: str, config: dict[str, Any]) -> None:
    """Raises UsageError for an adapter (a folder or hub name) with settings that vLLM's LoRA has not."""
    if given := [setting for setting in UNKNOWN if config.get(setting)]:
        raise UsageError(
            f"--vllm_lora_sync: got adapter, but {name} has {given[0]}, which vLLM's adapters have not; leave it out, "
            "and merged weights are sent"
        )


class PolicyAdapter:
    """The adapter of a policy, under its layers' published names; in `gather` ZeRO-3's parameters are whole.

    `facts` are what vLLM reads of PEFT's configuration. Raises UsageError for layers that it cannot adapt.
    """

    def __init__(self, model: torch.nn.Module, gather: Gather):
        self.gather, base = gather, bare_model(model)
        found = {name: layer for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}
        self.layers = {published_layer(base, name, layer): layer for name, layer in found.items()}
        config = model.peft_config[ACTIVE]
        self.rank = config.r
        self.facts = {"r": config.r, "lora_alpha": config.lora_alpha, "use_rslora": config.use_rslora}
        self.facts |= {"target_modules": []}

    def tensors(self) -> Weights:
        """(name, copy) of each matrix; all ranks must iterate to the end, as gathering is collective."""
        for name, layer in self.layers.items():
            parts = parts_of(layer)
            with self.gather(list(parts.values())):
                for part, weight in parts.items():
                    yield f"{name}.{part}.weight", weight.detach().clone()  # vLLM scales what it gets in place

    def shapes(self) -> list[Shape]:
        """(name, dtype, whole shape) of each of them, in the same order, without gathering."""
        return [
            (f"{name}.{part}.weight", weight.dtype, whole_shape(weight))
            for name, layer in self.layers.items()
            for part, weight in parts_of(layer).items()
        ]


def parts_of(layer: LoraLayer) -> dict[str, torch.nn.Parameter]:
    """The two matrices of a layer's adapter: A (r, in) and B (out, r)."""
    return {"lora_A": layer.lora_A[ACTIVE].weight, "lora_B": layer.lora_B[ACTIVE].weight}


def published_layer(base: torch.nn.Module, name: str, layer: LoraLayer) -> str:
    """The name of an adapted layer in published checkpoints. Raises UsageError for what is no linear layer there."""
    published = published_name(base, f"{name}.weight") if ACTIVE in layer.lora_A else None
    if published is None:
        raise UsageError(
            f"--vllm_lora_sync: got adapter, but {name} is no linear layer of its own in published checkpoints, to "
            "which vLLM's adapters belong; leave it out, and merged weights are sent"
        )
    return published.removesuffix(".weight")
