"""Refuses flags that could not act as they are set, before anything is loaded, and names what to set instead."""

import math
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from accelerate.utils import is_cuda_available
from transformers import TrainingArguments

from open_r1.config.batches import check_batches, ranks_here
from open_r1.config.environment_flags import check_environment
from open_r1.config.generation_fields import check_generation_kwargs
from open_r1.config.idle_flags import is_stage_3
from open_r1.config.loss_types import check_loss_level
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.row_flags import check_row_choice
from open_r1.config.task_arguments import HubArguments, JsonlArguments, TaskArguments
from open_r1.config.tool_flags import check_tools
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.video_flags import check_videos
from open_r1.config.vision_flags import check_noisy_rollouts, check_perception, check_vision_probe
from open_r1.config.vllm_flags import check_adapter_sync, check_rollout_ahead, check_vllm
from open_r1.data.paths import split_paths
from open_r1.errors import look_up
from open_r1.report.diagnoses import DIAGNOSES
from open_r1.rewards.custom import load_reward, user_file
from open_r1.rewards.registry import prepare_methods
from open_r1.tasks.find import find_task, read_template

# Flags of TRL's ModelConfig that could not act -> what to do.
IDLE = {
    "load_in_8bit": "it rounds a token by what the batch beside it holds, so that no two passes agree; use "
    "--load_in_4bit true, which needs less memory",
    "bnb_4bit_quant_storage": "it is for weights that ZeRO-3 or FSDP cut, and 4-bit ones stay whole here; remove it",
    "lora_task_type": "the model is always one that generates; remove it",
}
USER_REWARD_FLAGS = ("reward_seconds", "reward_memory_gb", "rewards_in_process", "reward_errors")


def check_choices(parsed: Sequence[Any]) -> None:
    """Refuse values outside a flag's choices: argparse checks the command line only, and YAML is checked here."""
    for part in parsed:
        for name, choices in ((f.name, f.metadata.get("choices")) for f in fields(part)):
            if choices and (got := getattr(part, name)) not in (None, *choices):
                raise ValueError(f"--{name}: got {got}, expected one of {', '.join(map(str, choices))}")


def check_values(data: Any, training: GRPOArguments, model: VLMConfig, typed: set[str]) -> None:
    """Refuse combinations that could not act; `typed`: flags on the command line. Raises ValueError with remedies."""
    check_batches(training, ranks_here())
    check_sources(data, model)
    check_task_flags(data)
    check_attention(model, training)
    if isinstance(data, HubArguments) and not data.dataset_name:
        raise ValueError("--dataset_name: got nothing, expected a hub name or a folder")
    check_generation_kwargs(training)
    check_loss_level(training)
    check_four_bit(model, training)
    check_tokens_per_forward(training)
    check_vision_probe(training)
    check_perception(training)
    check_noisy_rollouts(training)
    check_tools(training)
    check_environment(training, rewards_of(data))
    if training.use_vllm:
        check_vllm(training)
        check_adapter_sync(training, model)
        check_rollout_ahead(training)
    check_row_choice(training)
    held_out = {"val_split_ratio", "dataset_test_split"} & {name for name, value in vars(data).items() if value}
    if held_out and training.eval_strategy == "no":
        raise ValueError(f"--{held_out.pop()}: acts only with --eval_strategy steps or epoch; add it, or leave it out")
    for name in training.stop_on or ():
        look_up(name, DIAGNOSES, "--stop_on")
    if data.rollouts_to_keep < training.num_generations:
        got, least = data.rollouts_to_keep, training.num_generations
        raise ValueError(
            f"--rollouts_to_keep: got {got}, expected at least --num_generations {least}, one group; "
            "--rollout_groups 0 keeps none"
        )
    check_limit(training)
    check_rewards(data, typed)
    prepare_methods(split_paths(data.reward_method, "--reward_method") if data.reward_method else ())
    check_lora(data, model, typed)


def check_attention(model: VLMConfig, training: Any) -> None:
    """Refuse attention kernels of GPUs on a machine without one. Raises ValueError."""
    name = model.attn_implementation or ""
    if ("flash" in name or "kernels" in name) and (training.use_cpu or not is_cuda_available()):
        raise ValueError(
            f"--attn_implementation: got {name}, whose kernels run on CUDA devices alone, and none is used here; "
            "remove it: sdpa is the default"
        )


def cutting_engine(training: TrainingArguments) -> str | None:
    """The engine that cuts weights into parts of ranks, or None."""
    return "--fsdp" if training.fsdp else "ZeRO-3" if is_stage_3(training.deepspeed) else None


def check_four_bit(model: VLMConfig, training: Any) -> None:
    """Refuse a 4-bit base where it cannot be loaded, or nothing can be trained on it. Raises ValueError."""
    if "quantization_config" in (training.model_init_kwargs or {}):
        raise ValueError("--model_init_kwargs: got quantization_config, expected --load_in_4bit true in its place")
    if not model.load_in_4bit:
        return
    if engine := cutting_engine(training):
        raise ValueError(
            f"--load_in_4bit: got true with {engine}, which cuts weights into parts that are no whole 4-bit blocks; "
            "start the ranks by torchrun alone (each holds the 4-bit model), or leave --load_in_4bit out"
        )
    if getattr(training, "use_vllm", False):
        raise ValueError(
            "--load_in_4bit: got true with --use_vllm true, whose engine would hold all weights in 16 bits beside "
            "them; leave one of the two out"
        )
    if find_spec("bitsandbytes") is None:
        raise ValueError("--load_in_4bit: got true, but bitsandbytes is not installed; run bash setup.sh --quant")


def check_tokens_per_forward(training: GRPOArguments) -> None:
    """Refuse a budget of no tokens, and one where ranks make their passes together. Raises ValueError."""
    budget = training.tokens_per_forward
    if budget is None:
        return
    if budget < 1:
        raise ValueError(f"--tokens_per_forward: got {budget}, expected at least 1, or leave it out")
    if engine := cutting_engine(training):
        raise ValueError(
            f"--tokens_per_forward: got {budget} with {engine}, whose ranks gather weights together in each pass, and "
            "would have different numbers of passes; use ZeRO-2 or plain torchrun, or lower "
            "--per_device_train_batch_size in its place"
        )


def check_limit(training: Any) -> None:
    """Refuse a number of checkpoints to keep that is none. Raises ValueError."""
    limit = training.save_total_limit
    if limit is not None and limit < 1:
        raise ValueError(
            f"--save_total_limit: got {limit}, expected at least 1: the newest checkpoint always stays; leave it out "
            "to keep all, or set --save_strategy no"
        )


def check_task_flags(data: TaskArguments) -> None:
    """Refuse an unknown task, a prompt template of no use and videos without frames; a template's file becomes its
    text. Raises ValueError."""
    find_task(data.task_type, flag="--task_type")
    check_videos(data)
    if data.prompt_template is not None:
        data.prompt_template = read_template(data.prompt_template)


def rewards_of(data: TaskArguments) -> Sequence[str]:
    """The names of a run's rewards: those of --reward_funcs, else the task's."""
    return data.reward_funcs or find_task(data.task_type).rewards


def check_rewards(data: Any, typed: set[str]) -> None:
    """Refuse rewards that fail to load, and bounds of users' rewards that could not act. Raises ValueError."""
    for name in data.reward_funcs or ():
        load_reward(name)
    for name in USER_REWARD_FLAGS[:2]:
        if not 0 < (value := getattr(data, name)) < math.inf:
            raise ValueError(f"--{name}: got {value:g}, expected a positive number")
    set_here = [f.name for f in fields(TaskArguments) if f.name in typed or getattr(data, f.name) != f.default]
    bounds = [name for name in set_here if name in USER_REWARD_FLAGS]
    own = [name for name in rewards_of(data) if user_file(name)[0]]
    if bounds and not own and (bounds != ["reward_errors"] or "environment" not in rewards_of(data)):
        raise ValueError(f"--{bounds[0]}: acts only on your own --reward_funcs path/to/file.py:function; remove it")
    if data.rewards_in_process and (idle := [name for name in bounds if name in USER_REWARD_FLAGS[:2]]):
        raise ValueError(f"--{idle[0]}: does not act with --rewards_in_process true; remove one of the two")


def check_sources(data: Any, model: VLMConfig) -> None:
    """Refuse a run without model or data. Raises ValueError."""
    if not model.model_name_or_path:
        raise ValueError("--model_name_or_path: got nothing, expected a hub name or a folder")
    if isinstance(data, JsonlArguments) and not data.data_file_paths:
        raise ValueError("--data_file_paths: got nothing, expected JSONL files separated by colons")


def check_lora(data: Any, model: VLMConfig, typed: set[str]) -> None:
    """Refuse flags of the adapter that could not act, from the command line or YAML. Raises ValueError."""
    default = VLMConfig()
    changed = [f.name for f in fields(VLMConfig) if getattr(model, f.name) != getattr(default, f.name)]
    for name in changed:
        if name in IDLE:
            raise ValueError(f"--{name}: got {getattr(model, name)}, cannot act: {IDLE[name]}")
    if not model.use_peft and (idle := [name for name in lora_flags() if name in typed or name in changed]):
        raise ValueError(f"--{idle[0]}: acts only with --use_peft true; add it, or remove --{idle[0]}")
    if model.lora_vision and data.freeze_vision_modules:
        raise ValueError("--lora_vision, --freeze_vision_modules: got true for both, which contradict; remove one")


def lora_flags() -> list[str]:
    """Names of the flags of a LoRA adapter."""
    return [f.name for f in fields(VLMConfig) if f.name.startswith("lora_") or f.name in ("use_rslora", "use_dora")]
