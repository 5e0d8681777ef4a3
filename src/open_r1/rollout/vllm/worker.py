"""What runs inside a vLLM worker: loading the policy's weights, and, in a server, meeting the trainer that sends them.

`run_scripts/vllm_server.sh` names `WeightSync` to vLLM (`--worker-extension-cls`), which then answers calls of its
methods over HTTP.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm.config import set_current_vllm_config
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from open_r1.rollout.vllm.weight_channel import broadcast, channel, meeting_point


def reload(worker: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """New weights in a worker: its layers are taken back to the layout of a checkpoint, loaded, and packed again."""
    with set_current_vllm_config(worker.vllm_config):
        model = worker.get_model()
        initialize_layerwise_reload(model)
        model.load_weights(weights)
        finalize_layerwise_reload(model, worker.model_config)
        for layer in model.modules():  # a tied head has no weights of its own to load, but a packed copy of them
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)


class WeightSync:
    """Methods beside vLLM's own in each worker. Arguments are strings, as vLLM's HTTP calls pass them."""

    def policy_describe(self) -> dict[str, Any]:
        """What the trainer compares with itself before it trusts this server."""
        config = self.vllm_config.model_config
        text = config.hf_text_config
        return {
            "model_type": config.hf_config.model_type,
            "hidden_size": text.hidden_size,
            "layers": text.num_hidden_layers,
            "vocabulary": text.vocab_size,
            "logprobs_mode": str(config.logprobs_mode),
            "synced": getattr(self, "policy_version", None),
        }

    def policy_join(self, host: str, port: str, meeting: str, ranks: str, seconds: str) -> None:
        """Meet the trainer, which listens on host:port; this worker is rank 1 + its own."""
        point = meeting_point(host, int(port), leads=False, seconds=float(seconds))
        self.policy_channel = channel(point, meeting, 1 + self.rank, int(ranks), self.device, float(seconds))

    def policy_load(self, announced: str, version: str) -> None:
        """Load the weights that the trainer sends, one after the other as announced: (name, dtype, shape) each."""
        reload(self, self._arriving(json.loads(announced)))
        self.policy_version = version

    def _arriving(self, announced: list[tuple[str, str, list[int]]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, dtype, shape in announced:
            empty = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            yield name, broadcast(self.policy_channel, empty)
