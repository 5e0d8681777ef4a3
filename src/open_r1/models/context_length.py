"""How many tokens a row may have: a model answers wrongly, without an error, beyond its context."""

from typing import Any

from transformers import PreTrainedConfig

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.prompt_length import Limit, prompt_length_limit
from open_r1.models.configuration import read_config
from open_r1.models.lora import adapter_config

SCALED = ("linear", "dynamic", "yarn")  # rope types whose factor is not in max_position_embeddings


def row_limits(task: TaskArguments, training: Any, model_args: VLMConfig) -> list[Limit]:
    """The limits of a row's length: `--max_prompt_length`, and the model's context less the longest completion.

    `training` are GRPOArguments, or those of supervised fine-tuning, which samples nothing.
    """
    by_flag = [] if task.max_prompt_length is None else [prompt_length_limit(task.max_prompt_length)]
    return by_flag + context_limits(load_config(model_args, training.trust_remote_code), training)


def load_config(model_args: VLMConfig, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The model's configuration, the base model's for an adapter."""
    name, revision = model_args.model_name_or_path, model_args.model_revision
    if adapter := adapter_config(name, revision):
        name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    return read_config(name, revision, trust_remote_code)


def context_limits(config: PreTrainedConfig, training: Any) -> list[Limit]:
    """The limit of the model's context; empty where the configuration names none."""
    context = context_length(config)
    if context is None:
        return []
    completion = training.max_completion_length if isinstance(training, GRPOArguments) else 0
    vllm = bool(completion) and training.use_vllm
    if vllm and training.vllm_max_model_length:
        context = min(context, training.vllm_max_model_length)
    less = f" less --max_completion_length {completion}" * bool(completion)
    expected = f"at most the model's context of {context} tokens{less}"
    lower = "--max_completion_length or --max_pixels" if completion else "--max_pixels"
    mrope = uses_mrope(config) and not vllm
    return [Limit(context - completion, expected, f"lower {lower}, or remove the row", mrope=mrope)]


def context_length(config: PreTrainedConfig) -> int | None:
    """The model's context: most tokens of prompt and completion together, with RoPE scaling; None where it is not set.

    llama3, longrope and settings by kind of layer (Gemma 3) have their scaling already in `max_position_embeddings`.
    """
    text = config.get_text_config()
    length, rope = getattr(text, "max_position_embeddings", None), rope_settings(config)
    if length is None or rope.get("rope_type") not in SCALED:
        return length
    return max(length, int(rope.get("original_max_position_embeddings", length) * rope.get("factor", 1.0)))


def uses_mrope(config: PreTrainedConfig) -> bool:
    """Whether the model's positions are M-RoPE's."""
    return "mrope_section" in rope_settings(config)


def rope_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """The RoPE settings of the language model."""
    return getattr(config.get_text_config(), "rope_parameters", None) or {}
