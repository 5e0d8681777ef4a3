"""The policy's adapter inside vLLM: which models take one, how an engine is given it, and how prompts ask for it."""

from collections.abc import Iterable
from typing import Any, get_args

import torch
import vllm
from vllm import EngineArgs, ModelRegistry
from vllm.config.lora import MaxLoRARanks
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest
from vllm.model_executor.models import supports_lora

from open_r1.errors import UsageError
from open_r1.rollout.vllm.adapter import PolicyAdapter
from open_r1.rollout.vllm.offline import own_configurations
from open_r1.rollout.vllm.types import ADAPTER_NAME

ADAPTER_NUMBER = 1  # under which vLLM knows the policy's adapter


def apply_adapter(worker: Any, facts: dict[str, Any], tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Put the policy's adapter in the place of the one before; `facts` are those of PEFT's configuration.

    Raises ValueError for an adapter of layers that vLLM's model does not adapt, which would be left out silently.
    """
    manager = worker.model_runner.lora_manager
    held = manager._adapter_manager
    renamed = getattr(held.model, "hf_to_vllm_mapper", None)
    adapter = LoRAModel.from_lora_tensors(
        ADAPTER_NUMBER,
        dict(tensors),
        PEFTHelper.from_dict(facts),
        device=str(worker.device),
        dtype=manager.lora_config.lora_dtype,
        weights_mapper=renamed and renamed.get_rename_mapper(),
    )
    adapted = {part for name in held.modules for part in (name, *held.packed_modules.get(name, ()))}
    if left_out := sorted(set(adapter.loras) - adapted):
        raise ValueError(
            f"--vllm_lora_sync: got adapter, but vLLM's {type(held.model).__name__} takes no adapter of "
            f"{left_out[0]} (and {len(left_out) - 1} more); leave it out, and merged weights are sent"
        )
    held.remove_adapter(ADAPTER_NUMBER)
    held.add_adapter(adapter)
    held.activate_adapter(ADAPTER_NUMBER)


def refuse_adapters(name: str, **options: Any) -> None:
    """Raises UsageError for a model that this vLLM adapts nowhere; `options` as of `offline.reason_against`."""
    with own_configurations():
        config = EngineArgs(model=name, **options).create_model_config()
    model, _ = ModelRegistry.resolve_model_cls(config.architectures, config)
    if not supports_lora(model):
        raise UsageError(
            f"--vllm_lora_sync: got adapter, but vLLM {vllm.__version__} takes no adapters for {model.__name__}; "
            "leave it out, and merged weights are sent"
        )


def adapter_options(adapter: PolicyAdapter | None) -> dict[str, Any]:
    """The arguments of vLLM's `LLM` for an adapter; vLLM has room for some ranks only."""
    if adapter is None:
        return {}
    room = next(rank for rank in get_args(MaxLoRARanks) if rank >= adapter.rank)
    return {"enable_lora": True, "max_lora_rank": room}


def adapter_request(adapter: PolicyAdapter | None) -> LoRARequest | None:
    """Which adapter a prompt is for: the one that `apply_adapter` has loaded, so that no file is read."""
    return adapter and LoRARequest(ADAPTER_NAME, ADAPTER_NUMBER, ADAPTER_NAME)
