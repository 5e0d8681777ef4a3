"""A vLLM engine in the trainer's own process, on the trainer's own device.

The engine never reads the checkpoint: it starts from a folder of configuration and processor alone, takes its weights
from the policy, and so cannot differ from it in either. What differs from TRL 1.16's colocated engine: prompts go in
unexpanded (TRL's are expanded twice), each once for its whole group, and weights are loaded through vLLM's own
reload, which also packs them anew where a device needs that.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin
from trl.trainer.utils import ensure_master_addr_port
from vllm import LLM, RequestOutput
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from open_r1.config.arguments import GRPOArguments
from open_r1.errors import RunEnded
from open_r1.rollout.vllm.offline import common_options, completion, in_this_process, prompt, sampling_params
from open_r1.rollout.vllm.policy_weights import Weights
from open_r1.rollout.vllm.types import EngineError, Request, SampledCompletion, Sampling, check_prompt
from open_r1.rollout.vllm.worker import reload

BATCHED_TOKENS = 4096  # of a step; vLLM's default makes its memory profile too large beside a trainer


class Colocate:
    """`weights` gives the policy's weights anew each time; all ranks construct, sync and generate together."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: GRPOArguments,
        rank: tuple[int, int, int],
        weights: Callable[[], Weights],
    ):
        self.weights, self.sleeps = weights, args.vllm_enable_sleep_mode
        size = args.vllm_tensor_parallel_size
        self.shards = TensorParallel(size, ranks=rank[2]) if size > 1 else None
        set_engine_environment(rank)
        POLICY_WEIGHTS["weights"] = weights
        with tempfile.TemporaryDirectory() as folder:
            for part in (model.config, processor):
                part.save_pretrained(folder)
            self.llm = LLM(model=folder, **colocate_options(model, args, rank))
        self.asleep = False
        self.rest()

    def sync(self, frozen_vision: bool, label: str) -> None:
        """Load the policy's weights. Prefixes computed with the old ones are forgotten, and images too unless the
        vision tower is frozen."""
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        self.llm.collective_rpc(reload, args=(self.weights(),))
        self.llm.reset_prefix_cache()
        if not frozen_vision or self.sleeps:
            self.llm.llm_engine.reset_encoder_cache()

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, look: Callable[[], None]
    ) -> list[list[SampledCompletion]]:
        """The completions of each request, in order.

        Raises EngineError for a prompt that vLLM read otherwise, and what `look`, called after each token, raises.
        Ranks that hold one engine together do not look, as they must stay in step.
        """
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        everyones, first = self.shards.gather(requests) if self.shards else (list(requests), 0)
        prompts = [prompt(request) for request in everyones]
        params = [sampling_params(sampling, request) for request in everyones]
        outputs = self.outputs(prompts, params, look)[first : first + len(requests)]
        for request, output in zip(requests, outputs, strict=True):
            check_prompt(request, output.prompt_token_ids)
        self.rest()
        return [[completion(c) for c in sorted(output.outputs, key=lambda c: c.index)] for output in outputs]

    def outputs(self, prompts: Sequence[Any], params: Sequence[Any], look: Callable[[], None]) -> list[RequestOutput]:
        """`LLM.generate`, with a look after each step."""
        engine, finished = self.llm.llm_engine, []
        numbers = self.llm.enqueue(prompts, params, use_tqdm=False)
        try:
            while engine.has_unfinished_requests():
                finished += [output for output in engine.step() if output.finished]
                if self.shards is None:
                    look()
        except RunEnded:
            engine.abort_request(numbers, internal=True)
            raise
        return sorted(finished, key=lambda output: int(output.request_id))

    def rest(self) -> None:
        """Give the memory back to the trainer until the next sync, where `--vllm_enable_sleep_mode` asks for it."""
        if self.sleeps:
            self.llm.sleep(level=2)
            self.asleep = True

    @property
    def stale(self) -> bool:
        """Whether weights must be loaded again although the policy has not changed."""
        return self.asleep


def colocate_options(model: PreTrainedModel, args: GRPOArguments, rank: tuple[int, int, int]) -> dict[str, Any]:
    """What vLLM is started with."""
    return {
        **common_options(model.config),
        "load_format": LOAD_FORMAT,
        "dtype": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "tensor_parallel_size": args.vllm_tensor_parallel_size,
        "gpu_memory_utilization": args.vllm_gpu_memory_utilization,
        "max_model_len": args.vllm_max_model_length,
        "max_num_seqs": args.per_device_train_batch_size * args.steps_per_generation * args.vllm_tensor_parallel_size,
        "enable_sleep_mode": args.vllm_enable_sleep_mode,
        "model_impl": args.vllm_model_impl,
        "trust_remote_code": args.trust_remote_code,
        "distributed_executor_backend": "external_launcher",
        "logprobs_mode": "processed_logprobs",  # after temperature and bans, as tokens are drawn
        "seed": rank[0] // args.vllm_tensor_parallel_size,
        **({"max_num_batched_tokens": BATCHED_TOKENS} if torch.cuda.is_available() else {}),
    }


def set_engine_environment(rank: tuple[int, int, int]) -> None:
    """The environment of an engine inside a trainer's process: (rank, local rank, ranks)."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    os.environ |= dict(zip(names, map(str, rank), strict=True))
    in_this_process()
    ensure_master_addr_port()
    # warns at each sync of every layer that has buffers alone
    logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)


# ------------------------------------------------------------------------------------------------------------ weights

LOAD_FORMAT = "open_r1_policy"
POLICY_WEIGHTS: dict[
    str, Callable[[], Weights]
] = {}  # vLLM makes its loader itself, so weights are left where it finds them


@register_model_loader(LOAD_FORMAT)
class PolicyLoader(BaseModelLoader):
    """vLLM's first weights, from the policy."""

    def download_model(self, model_config: Any) -> None:
        pass

    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
        """Raises EngineError where a parameter of the engine gets no value."""
        expected = {name for name, _ in model.named_parameters()}
        loaded = model.load_weights(POLICY_WEIGHTS["weights"]())
        if missing := expected - (expected if loaded is None else loaded):
            raise EngineError(f"vLLM's {type(model).__name__} has weights the policy lacks: {sorted(missing)[:5]}")


class TensorParallel:
    """Ranks that hold one engine together: each asks the engine everything its group asks."""

    def __init__(self, size: int, ranks: int):
        groups = [list(range(first, first + size)) for first in range(0, ranks, size)]
        self.group, _ = torch.distributed.new_subgroups_by_enumeration(groups)
        self.size = size

    def gather(self, requests: Sequence[Request]) -> tuple[list[Request], int]:
        """(the requests of all ranks of the group, where those of this rank begin)."""
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, list(requests), group=self.group)
        first = torch.distributed.get_rank(group=self.group)
        return [request for part in parts for request in part], sum(len(part) for part in parts[:first])
