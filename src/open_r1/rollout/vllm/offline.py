"""Options and conversions of engines inside a Python process: the trainer's (`colocate`) and the evaluator's."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
import vllm
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from vllm import EngineArgs, ModelRegistry, SamplingParams
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sampling_params import StructuredOutputsParams

from open_r1.data.video.inputs import metadata_of
from open_r1.errors import UsageError, shorten
from open_r1.rollout.vllm.types import Request, SampledCompletion, Sampling


def set_in_process_environment() -> None:
    """Set the environment of a vLLM engine inside this process; on the CPU with little memory and unbound threads."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # other threads need the cores too


def common_options(config: Any, videos: bool) -> dict[str, Any]:
    """The arguments that every `LLM` gets; `config` is the model's, `videos`: whether prompts hold some."""
    on_cpu = not torch.cuda.is_available()
    return {
        "enable_prefix_caching": not (on_cpu and has_states(config)),  # a cached state needs chunked prefill
        "enforce_eager": on_cpu,
        "generation_config": "vllm",
        "disable_log_stats": True,
        # vLLM 0.31 discards a sample of a partly computed prompt, which shifts a seeded generator
        **({"enable_chunked_prefill": False} if on_cpu else {}),
        **({"limit_mm_per_prompt": {"image": 999, "video": 999 * videos}} if names_videos(config) or videos else {}),
    }


def names_videos(config: Any) -> bool:
    """Whether a model's configuration names a token of videos."""
    return hasattr(config, "video_token_id") or hasattr(config, "video_token_index")


def has_states(config: Any) -> bool:
    """Whether vLLM's model of a configuration keeps recurrent states beside keys and values."""
    known = ModelRegistry.models
    return any(known[name].inspect_model_cls().is_hybrid for name in config.architectures or () if name in known)


@contextmanager
def own_configurations() -> Iterator[None]:
    """After this context transformers makes its own configurations again: vLLM registers classes of its own for some
    model types (Qwen3.5), of which transformers can make no model."""
    try:
        yield
    finally:
        for model_type in CONFIG_MAPPING_NAMES:
            CONFIG_MAPPING._extra_content.pop(model_type, None)


# Model type -> what vLLM 0.31 computes otherwise than the policy (assets/docs/scaling.md).
KNOWN_WRONG = {
    "aria": "does not load its experts anew",
    "exaone4_5": "has another vision tower for it",
    **dict.fromkeys(("qwen3_5_moe", "glm4v_moe"), "has other names for its experts' weights"),
}


# The same of videos alone.
WRONG_VIDEOS = {"internvl": "writes its videos with other tokens than its processor"}


def refuse_unknown_videos(flag: str, otherwise: str, name: str, most: int, **options: Any) -> None:
    """Raises UsageError for a model folder or hub name whose videos, up to `most` a row, this vLLM does not take, or
    not as the policy. `flag` asks for vLLM, `otherwise` says what to do without; `options` as of `reason_against`."""
    described, _ = PreTrainedConfig.get_config_dict(name, revision=options.get("revision"))
    why = WRONG_VIDEOS.get(described.get("model_type", ""))
    if not why and most > (limit := video_limit(name, **options)):
        why = f"takes at most {limit} of its model" if limit else "takes none of its model"
    if why:
        raise UsageError(
            f"{flag}: got {name} and rows with up to {most} video(s), but vLLM {vllm.__version__} {why}; add "
            f"--video_form frames, or {otherwise}"
        )


def video_limit(name: str, **options: Any) -> float:
    """The most videos of a prompt that this vLLM takes for a model folder or hub name."""
    with own_configurations():
        config = EngineArgs(model=name, **options).create_model_config()
        limits = MULTIMODAL_REGISTRY.create_processor(config).info.supported_mm_limits
    limit = limits.get("video", 0)
    return inf if limit is None else limit


def refuse_unknown_model(name: str, half: bool, **options: Any) -> None:
    """Raises UsageError for a model that this vLLM cannot run, or not as the policy; see `reason_against`."""
    if reason := reason_against(name, half, **options):
        raise UsageError(f"--use_vllm: got {name}, but {reason}; leave --use_vllm out")


def reason_against(name: str, half: bool, **options: Any) -> str | None:
    """Why this vLLM cannot roll out a model folder or hub name, before anything is loaded; None where it can.

    `half`: it runs in bfloat16 or float16. On a CPU vLLM 0.31 has no float32 kernel for the convolutions of layers
    with a state. `options` are vLLM's of a model: `revision`, `model_impl`, `trust_remote_code`.
    """
    this = f"vLLM {vllm.__version__}"
    described, _ = PreTrainedConfig.get_config_dict(name, revision=options.get("revision"))
    if known := KNOWN_WRONG.get(described.get("model_type", "")):
        return f"{this} {known}"
    try:
        with own_configurations():
            config = EngineArgs(model=name, **options).create_model_config().hf_config
    except ValueError as error:
        unknown = re.search(r"Model architectures (\[.*?\]) are not supported", str(error))
        return f"{this} has no model for {unknown[1]}" if unknown else shorten(" ".join(str(error).split()), 300)
    if not (half or torch.cuda.is_available()) and has_states(config):
        return f"in float32 on a CPU {this} has no kernel for its layers with a state"
    return None


def vllm_prompt(request: Request) -> dict[str, Any]:
    """A request's prompt as `LLM.generate` takes it."""
    media: dict[str, Any] = {"image": list(request.pictures)} if request.pictures else {}
    if request.videos:
        media["video"] = [(each.pixels, metadata_of(each) | {"do_sample_frames": False}) for each in request.videos]
    return {"prompt_token_ids": request.ids, **({"multi_modal_data": media} if media else {})}


def sampling_params(sampling: Sampling, request: Request) -> SamplingParams:
    """vLLM's sampling parameters of a request; the log-prob of each sampled token is returned."""
    fields = sampling.fields() | ({} if request.tokens is None else {"max_tokens": request.tokens})
    fields["logit_bias"] = {int(token): bias for token, bias in fields["logit_bias"].items()}
    regex = {"structured_outputs": StructuredOutputsParams(regex=sampling.regex)} if sampling.regex else {}
    return SamplingParams(n=request.n, seed=request.seed, logprobs=0, detokenize=False, **fields, **regex)


def sampled_completion(output: Any) -> SampledCompletion:
    """A SampledCompletion of vLLM's CompletionOutput."""
    ids = list(output.token_ids)
    logps = [step[token].logprob for step, token in zip(output.logprobs, ids, strict=True)]
    return SampledCompletion(ids, logps)
