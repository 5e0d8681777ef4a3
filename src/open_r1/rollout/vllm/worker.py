"""Code that runs inside a vLLM worker: load the policy's weights, or its adapter; in a server, join the trainer that
sends them.

`run_scripts/vllm_server.sh` passes `WeightSync` to vLLM (`--worker-extension-cls`), which then serves its methods over
HTTP.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm.config import set_current_vllm_config
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.transformers_utils.processor import cached_processor_from_config

from open_r1.rollout.vllm.adapter_engine import apply_adapter
from open_r1.rollout.vllm.weight_channel import broadcast, join_channel, open_store
from open_r1.rollout.vllm.wire import pixel_fields


def reload(worker: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load new weights: layers return to a checkpoint's layout, are loaded, and are packed again."""
    with set_current_vllm_config(worker.vllm_config):
        model = worker.get_model()
        initialize_layerwise_reload(model)
        model.load_weights(weights)
        finalize_layerwise_reload(model, worker.model_config)
        for layer in model.modules():  # a tied head loads no weights, but has a packed copy of the embedding's
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)


class WeightSync:
    """Methods added to each vLLM worker. Arguments are strings, as vLLM's HTTP calls pass them."""

    def policy_describe(self) -> dict[str, Any]:
        """The served model, for `wire.check_model`, and the policy version (`synced`) that it has."""
        config = self.vllm_config.model_config
        text = config.hf_text_config
        return {
            "model_type": config.hf_config.model_type,
            "hidden_size": text.hidden_size,
            "layers": text.num_hidden_layers,
            "vocabulary": text.vocab_size,
            "logprobs_mode": str(config.logprobs_mode),
            "adapter_rank": self.vllm_config.lora_config.max_lora_rank if self.vllm_config.lora_config else 0,
            "pixels": self._pixels(),
            "synced": getattr(self, "policy_version", None),
        }

    def _pixels(self) -> dict[str, Any]:
        """`wire.pixel_fields` of pictures that come without fields of their own."""
        config = self.vllm_config.model_config
        given = config.multimodal_config.mm_processor_kwargs or {} if config.multimodal_config else {}
        return {"size": given["size"]} if "size" in given else pixel_fields(cached_processor_from_config(config))

    def policy_join(self, host: str, port: str, meeting: str, ranks: str, seconds: str) -> None:
        """Join the process group `meeting` of the trainer that listens on host:port; this worker's rank there is
        1 + its own."""
        store = open_store(host, int(port), listens=False, seconds=float(seconds))
        self.policy_channel = join_channel(store, meeting, 1 + self.rank, int(ranks), self.device, float(seconds))

    def policy_load(self, announced: str, version: str) -> None:
        """Load the weights that the trainer sends next, in the order of `announced`: JSON of (name, dtype, shape)."""
        reload(self, self._receive(json.loads(announced)))
        self.policy_version = version

    def policy_load_adapter(self, announced: str, version: str, facts: str) -> None:
        """Load the adapter that the trainer sends next; `announced` as for `policy_load`, `facts` as JSON."""
        apply_adapter(self, json.loads(facts), self._receive(json.loads(announced)))
        self.policy_version = version

    def _receive(self, parameters: list[tuple[str, str, list[int]]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, dtype, shape in parameters:
            empty = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            yield name, broadcast(self.policy_channel, empty)
