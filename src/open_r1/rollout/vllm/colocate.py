"""A vLLM engine in the trainer's own process, on the trainer's own device.

It starts from a folder with the policy's configuration and processor, and loads the policy's weights instead of a
checkpoint's, so it cannot differ from the policy in either. Unlike TRL 1.16's colocated engine, it takes prompts
unexpanded (TRL's are expanded twice), each once for its whole group, and loads weights by vLLM's own reload, which
also packs them again where a device needs that.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin
from trl.trainer.utils import ensure_master_addr_port
from vllm import LLM
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from open_r1.config.training_arguments import GRPOArguments
from open_r1.rollout.vllm.adapter import PolicyAdapter
from open_r1.rollout.vllm.adapter_engine import adapter_options, adapter_request, apply_adapter
from open_r1.rollout.vllm.checkpoint_names import Weights
from open_r1.rollout.vllm.engine_loop import EngineLoop
from open_r1.rollout.vllm.offline import common_options, own_configurations, set_in_process_environment
from open_r1.rollout.vllm.types import (
    EngineError,
    GivenRequests,
    Request,
    RequestSource,
    SampledCompletion,
    Sampling,
)
from open_r1.rollout.vllm.worker import reload

BATCHED_TOKENS = 4096  # tokens of a step; vLLM's default makes its memory profile too large beside a trainer
AUTO_LENGTH = -1  # the model's context, or as much of it as one row fits of in the engine's memory


class ColocatedEngine:
    """All ranks call each method together; `weights()` iterates over the policy's weights, anew each time.

    `videos`: prompts hold some. With an `adapter` these are the weights below it: the engine starts with them, and a
    sync is the adapter alone.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: GRPOArguments,
        rank: tuple[int, int, int],
        weights: Callable[[], Weights],
        adapter: PolicyAdapter | None,
        videos: bool = False,
    ):
        self.adapter, self.weights, self.sleeps = adapter, weights, args.vllm_enable_sleep_mode
        size = args.vllm_tensor_parallel_size
        self.shards = TensorParallel(size, ranks=rank[2]) if size > 1 else None
        set_engine_environment(rank)
        POLICY_WEIGHTS["weights"] = weights
        with tempfile.TemporaryDirectory() as folder:
            for part in (model.config, processor):
                part.save_pretrained(folder)
            with own_configurations():
                self.llm = LLM(model=folder, **colocate_options(model, args, rank, videos), **adapter_options(adapter))
        self.asleep = False
        if adapter:
            self.apply_adapter()
        self.rest()

    def sync(self, frozen_vision: bool, label: str) -> None:
        """Load the policy's weights or adapter; clear caches, that of images unless the vision tower is frozen."""
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        if self.adapter:
            self.apply_adapter()
        else:
            self.llm.collective_rpc(reload, args=(self.weights(),))
        self.llm.reset_prefix_cache()
        if not frozen_vision or self.sleeps:
            self.llm.llm_engine.reset_encoder_cache()

    def apply_adapter(self) -> None:
        self.llm.collective_rpc(apply_adapter, args=(self.adapter.facts, self.adapter.tensors()))

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, check_stop: Callable[[], None]
    ) -> list[list[SampledCompletion]]:
        """The completions of each request, in order. Raises as `answer`."""
        given = GivenRequests(requests)
        self.answer(given, sampling, check_stop)
        return given.completions

    def answer(self, source: RequestSource, sampling: Sampling, check_stop: Callable[[], None]) -> None:
        """Answer all requests of a source; ranks that share one engine those alone that it begins with.

        Raises EngineError for a prompt that differs from the trainer's, what the source raises, and what `check_stop`
        raises, which is called after each token; ranks that share one engine do not call it, as they must stay in
        step.
        """
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        loop = EngineLoop(self.llm, sampling, adapter_request(self.adapter))
        if self.shards:
            loop.answer(self.shards.joined(source), lambda: None)
        else:
            loop.answer(source, check_stop)
        self.rest()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Inside this context the engine stays awake, and later turns find what earlier ones read."""
        sleeps, self.sleeps = self.sleeps, False
        try:
            yield
        finally:
            self.sleeps = sleeps
        self.rest()

    def rest(self) -> None:
        """With `--vllm_enable_sleep_mode`, free the engine's memory until the next sync."""
        if self.sleeps and not self.asleep:
            self.llm.sleep(level=1 if self.adapter else 2)  # 1: weights that no sync brings wait in main memory
            self.asleep = True

    @property
    def stale(self) -> bool:
        """Whether weights must be loaded although the policy is the same: sleeping has dropped them."""
        return self.asleep


def colocate_options(
    model: PreTrainedModel, args: GRPOArguments, rank: tuple[int, int, int], videos: bool
) -> dict[str, Any]:
    """The arguments of vLLM's `LLM`."""
    return {
        **common_options(model.config, videos),
        "load_format": LOAD_FORMAT,
        "dtype": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "tensor_parallel_size": args.vllm_tensor_parallel_size,
        "gpu_memory_utilization": args.vllm_gpu_memory_utilization,
        "max_model_len": args.vllm_max_model_length or AUTO_LENGTH,
        "max_num_seqs": args.per_device_train_batch_size * args.steps_per_generation * args.vllm_tensor_parallel_size,
        "enable_sleep_mode": args.vllm_enable_sleep_mode,
        "model_impl": args.vllm_model_impl,
        "trust_remote_code": args.trust_remote_code,
        "distributed_executor_backend": "external_launcher",
        "logprobs_mode": "processed_logprobs",  # after temperature and bans, as tokens are sampled
        "seed": rank[0] // args.vllm_tensor_parallel_size,
        **({"max_num_batched_tokens": BATCHED_TOKENS} if torch.cuda.is_available() else {}),
    }


def set_engine_environment(rank: tuple[int, int, int]) -> None:
    """Set the environment of an engine inside a trainer's process; `rank` is (rank, local rank, ranks)."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    os.environ |= dict(zip(names, map(str, rank), strict=True))
    set_in_process_environment()
    ensure_master_addr_port()
    # it warns at each sync of every layer that has only buffers
    logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)


# ------------------------------------------------------------------------------------------------------------ weights

LOAD_FORMAT = "open_r1_policy"
# vLLM constructs PolicyLoader itself, which finds the weights here
POLICY_WEIGHTS: dict[str, Callable[[], Weights]] = {}


@register_model_loader(LOAD_FORMAT)
class PolicyLoader(BaseModelLoader):
    """Loads the policy's weights into a new engine."""

    def download_model(self, model_config: Any) -> None:
        pass

    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
        """Raises EngineError where a parameter of the engine gets no weight."""
        expected = {name for name, _ in model.named_parameters()}
        loaded = model.load_weights(POLICY_WEIGHTS["weights"]())
        if missing := expected - (expected if loaded is None else loaded):
            raise EngineError(f"vLLM's {type(model).__name__} has weights the policy lacks: {sorted(missing)[:5]}")


class TensorParallel:
    """Ranks that share one engine: each passes it the requests of all of them."""

    def __init__(self, size: int, ranks: int):
        groups = [list(range(first, first + size)) for first in range(0, ranks, size)]
        self.group, _ = torch.distributed.new_subgroups_by_enumeration(groups)
        self.size = size

    def joined(self, source: RequestSource) -> "JoinedRequests":
        """The requests that the sources of a group's ranks begin with; each source hears of its own."""
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, source.take(), group=self.group)
        return JoinedRequests(source, parts, torch.distributed.get_rank(group=self.group))


class JoinedRequests(GivenRequests):
    """The requests of ranks that share an engine: `parts` are each rank's, `rank` the place of this one's `source`."""

    def __init__(self, source: RequestSource, parts: Sequence[Sequence[Request]], rank: int):
        super().__init__([request for part in parts for request in part])
        first = sum(len(part) for part in parts[:rank])
        self.source, self.own = source, range(first, first + len(parts[rank]))

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        if number in self.own:
            self.source.completed(number - self.own.start, completions)
