"""Options and conversions of engines inside a Python process: the trainer's (`colocate`) and the evaluator's."""

import os
from typing import Any

import torch
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

from open_r1.rollout.vllm.types import Request, SampledCompletion, Sampling


def set_in_process_environment() -> None:
    """Set the environment of a vLLM engine inside this process; on the CPU with little memory and unbound threads."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # other threads need the cores too


def common_options(config: Any) -> dict[str, Any]:
    """The arguments that every `LLM` gets; `config` is the model's."""
    on_cpu = not torch.cuda.is_available()
    return {
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu,
        "generation_config": "vllm",
        "disable_log_stats": True,
        # vLLM 0.31 discards a sample of a partly computed prompt, which shifts a seeded generator
        **({"enable_chunked_prefill": False} if on_cpu else {}),
        **({"limit_mm_per_prompt": {"image": 999, "video": 0}} if hasattr(config, "video_token_id") else {}),
    }


def vllm_prompt(request: Request) -> dict[str, Any]:
    """A request's prompt as `LLM.generate` takes it."""
    images = {"multi_modal_data": {"image": list(request.pictures)}} if request.pictures else {}
    return {"prompt_token_ids": request.ids, **images}


def sampling_params(sampling: Sampling, request: Request) -> SamplingParams:
    """vLLM's sampling parameters of a request; the log-prob of each sampled token is returned."""
    fields = sampling.fields()
    fields["logit_bias"] = {int(token): bias for token, bias in fields["logit_bias"].items()}
    regex = {"structured_outputs": StructuredOutputsParams(regex=sampling.regex)} if sampling.regex else {}
    return SamplingParams(n=request.n, seed=request.seed, logprobs=0, detokenize=False, **fields, **regex)


def sampled_completion(output: Any) -> SampledCompletion:
    """A SampledCompletion of vLLM's CompletionOutput."""
    ids = list(output.token_ids)
    logps = [step[token].logprob for step, token in zip(output.logprobs, ids, strict=True)]
    return SampledCompletion(ids, logps)
