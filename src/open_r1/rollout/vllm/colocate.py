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
from vllm import LLM, RequestOutput
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from open_r1.config.training_arguments import GRPOArguments
from open_r1.errors import RunEnded
from open_r1.rollout.vllm.adapter import PolicyAdapter
from open_r1.rollout.vllm.adapter_engine import adapter_options, adapter_request, apply_adapter
from open_r1.rollout.vllm.checkpoint_names import Weights
from open_r1.rollout.vllm.offline import (
    common_options,
    own_configurations,
    sampled_completion,
    sampling_params,
    set_in_process_environment,
    vllm_prompt,
)
from open_r1.rollout.vllm.types import EngineError, Request, SampledCompletion, Sampling, check_prompt
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
        """The completions of each request, in order.

        Raises EngineError for a prompt that differs from the trainer's, and what `check_stop` raises, which is called
        after each token; ranks that share one engine do not call it, as they must stay in step.
        """
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        all_requests, first = self.shards.gather(requests) if self.shards else (list(requests), 0)
        prompts = [vllm_prompt(request) for request in all_requests]
        params = [sampling_params(sampling, request) for request in all_requests]
        outputs = self.run_engine(prompts, params, check_stop)[first : first + len(requests)]
        for request, output in zip(requests, outputs, strict=True):
            check_prompt(request, output.prompt_token_ids)
        self.rest()
        return [[sampled_completion(c) for c in sorted(output.outputs, key=lambda c: c.index)] for output in outputs]

    def run_engine(
        self, prompts: Sequence[Any], params: Sequence[Any], check_stop: Callable[[], None]
    ) -> list[RequestOutput]:
        """`LLM.generate`, with a call of `check_stop` after each step."""
        engine, finished = self.llm.llm_engine, []
        numbers = self.llm.enqueue(prompts, params, lora_request=adapter_request(self.adapter), use_tqdm=False)
        try:
            while engine.has_unfinished_requests():
                finished += [output for output in engine.step() if output.finished]
                if self.shards is None:
                    check_stop()
        except RunEnded:
            engine.abort_request(numbers, internal=True)
            raise
        return sorted(finished, key=lambda output: int(output.request_id))

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

    def gather(self, requests: Sequence[Request]) -> tuple[list[Request], int]:
        """(the requests of all ranks of the group, the index of this rank's first one)."""
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, list(requests), group=self.group)
        first = torch.distributed.get_rank(group=self.group)
        return [request for part in parts for request in part], sum(len(part) for part in parts[:first])
