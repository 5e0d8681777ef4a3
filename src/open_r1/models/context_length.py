"""How many tokens a model can hold: beyond its positions it answers without a word of complaint, and wrongly."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from open_r1.config.arguments import GRPOArguments, TaskArguments, VLMConfig
from open_r1.data.prompt_length import Limit, prompt_length_limit
from open_r1.models.lora import adapter_config

STRETCHED = ("linear", "dynamic", "yarn")  # rope types whose factor is not in max_position_embeddings


def limits_of(task: TaskArguments, training: Any, model_args: VLMConfig) -> list[Limit]:
    """What a row's length is held against: `--max_prompt_length`, and the model's context less the longest completion.

    `training` are GRPOArguments, or those of supervised fine-tuning, where nothing is sampled.
    """
    given = [] if task.max_prompt_length is None else [prompt_length_limit(task.max_prompt_length)]
    return given + context_limits(load_config(model_args, training.trust_remote_code), training)


def load_config(model_args: VLMConfig, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The model's configuration, the base model's for an adapter."""
    name, revision = model_args.model_name_or_path, model_args.model_revision
    if adapter := adapter_config(name, revision):
        name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def context_limits(config: PreTrainedConfig, training: Any) -> list[Limit]:
    """The model's context as a Limit; none where the configuration names none."""
    context = context_of(config)
    if context is None:
        return []
    sampled = training.max_completion_length if isinstance(training, GRPOArguments) else 0
    vllm = bool(sampled) and training.use_vllm
    if vllm and training.vllm_max_model_length:
        context = min(context, training.vllm_max_model_length)
    less = f" less --max_completion_length {sampled}" * bool(sampled)
    expected = f"at most the model's context of {context} tokens{less}"
    lower = "--max_completion_length or --max_pixels" if sampled else "--max_pixels"
    return [Limit(context - sampled, expected, f"lower {lower}, or remove the row", mrope=spans(config) and not vllm)]


def context_of(config: PreTrainedConfig) -> int | None:
    """Tokens of prompt and completion together, rope scaling included; None where the configuration does not say.

    llama3, longrope and settings by kind of layer (Gemma 3) have their scaling in `max_position_embeddings` already.
    """
    text = config.get_text_config()
    length, rope = getattr(text, "max_position_embeddings", None), rope_of(config)
    if length is None or rope.get("rope_type") not in STRETCHED:
        return length
    return max(length, int(rope.get("original_max_position_embeddings", length) * rope.get("factor", 1.0)))


def spans(config: PreTrainedConfig) -> bool:
    """Whether positions are M-RoPE's."""
    return "mrope_section" in rope_of(config)


def rope_of(config: PreTrainedConfig) -> dict[str, Any]:
    return getattr(config.get_text_config(), "rope_parameters", None) or {}
