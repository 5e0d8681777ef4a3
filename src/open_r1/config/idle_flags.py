"""Refuses flags of TRL and transformers that cannot act in a script at all, or not without another flag."""

import os
import re
from argparse import Namespace
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NO_METRICS = "evaluation computes no metrics of logits or labels; remove it"
OWN_EVALUATION = "evaluation is chosen by --eval_strategy; remove it"
OWN_ORDER = "rows are drawn in another order each epoch, by --seed and --data_seed; remove it"
# Flags without effect in all training scripts -> why.
REFUSED_FLAGS = {
    **dict.fromkeys(
        ("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
        NO_METRICS,
    ),
    **dict.fromkeys(("include_for_metrics", "batch_eval_metrics", "label_names"), NO_METRICS),
    "do_train": "the script trains; remove it",
    "do_eval": OWN_EVALUATION,
    "do_predict": OWN_EVALUATION,
    "length_column_name": OWN_ORDER,
    "remove_unused_columns": "rows are numbers, without columns; remove it",
    "auto_find_batch_size": "it would repeat a step with another batch; choose --per_device_train_batch_size "
    "(python -m open_r1.plan proposes one)",
    "enable_jit_checkpoint": "SIGTERM leaves a checkpoint of the last finished step anyway; remove it",
    **dict.fromkeys(
        ("torch_compile", "torch_compile_backend", "torch_compile_mode"),
        "passes of this project run the model's layers, which torch.compile does not follow; remove it",
    ),
    "parallelism_config": "ranks share the work by --deepspeed or --fsdp; remove it",
}
OWN_TURNS = "turns are counted by --max_tool_turns; use it"
NO_CONTINUOUS_BATCHING = "TRL's continuous batching takes no images; use --use_vllm true"
# Flags of TRL's GRPOConfig without effect in GRPO -> why.
REFUSED_GRPO_FLAGS = REFUSED_FLAGS | {
    "train_sampling_strategy": OWN_ORDER,
    "label_smoothing_factor": "the loss of GRPO has no labels; remove it",
    "average_tokens_across_devices": "--loss_type says how tokens are averaged; remove it",
    "max_tool_calling_iterations": OWN_TURNS,
    "use_transformers_continuous_batching": NO_CONTINUOUS_BATCHING,
    "use_transformers_paged": NO_CONTINUOUS_BATCHING,
    "transformers_continuous_batching_config": NO_CONTINUOUS_BATCHING,
    "cast_lm_head_to_fp32": "log-probs are computed by passes of this project, which keep the head's own type; "
    "--dtype float32 keeps the whole model in it",
    "include_num_input_tokens_seen": "TRL counts the tokens of GRPO in num_tokens; remove it",
}
SOFT = ("sapo", "vespo")  # losses without a clipped ratio; cispo has an upper bound alone
UNCLIPPED = ("cispo", *SOFT)
HAS_LIGER = find_spec("liger_kernel") is not None


@dataclass(frozen=True)
class Condition:
    """`flags` act only where `holds(arguments)` of a Namespace of all arguments; `needs` says what to set."""

    flags: str
    needs: str
    holds: Callable[[Namespace], object]


def is_constant(args: Namespace) -> bool:
    return args.lr_scheduler_type == "constant"


def is_evaluated(args: Namespace) -> bool:
    return args.eval_strategy != "no"


def has_best_model(args: Namespace) -> bool:
    return (
        args.load_best_model_at_end or "best" in args.save_strategy or args.lr_scheduler_type == "reduce_lr_on_plateau"
    )


def is_stage_3(deepspeed: str | None) -> bool:
    """Whether DeepSpeed's file is one of stage 3; True for one that is not there, which is refused by its own name."""
    if deepspeed is None or not Path(deepspeed).is_file():
        return deepspeed is not None
    return re.search(r'"stage"\s*:\s*3\b', Path(deepspeed).read_text(encoding="utf-8")) is not None


CONDITIONS = (
    Condition("sapo_temperature_neg sapo_temperature_pos", "--loss_type sapo", lambda a: a.loss_type == "sapo"),
    Condition(
        "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg",
        "--loss_type vespo",
        lambda a: a.loss_type == "vespo",
    ),
    Condition(
        "epsilon delta", "a --loss_type that clips (not cispo, sapo or vespo)", lambda a: a.loss_type not in UNCLIPPED
    ),
    Condition("epsilon_high", "a --loss_type that clips (not sapo or vespo)", lambda a: a.loss_type not in SOFT),
    Condition("sync_ref_model", "--beta above 0, which a reference model is for", lambda a: a.beta),
    Condition(
        "use_bias_correction_kl",
        "--beta above 0, which weighs the KL",
        lambda a: a.beta or not a.use_bias_correction_kl,  # recipes say false, and users add --beta 0
    ),
    Condition("ref_model_mixup_alpha ref_model_sync_steps", "--sync_ref_model true", lambda a: a.sync_ref_model),
    Condition(
        "entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target",
        "--use_adaptive_entropy true",
        lambda a: a.use_adaptive_entropy,
    ),
    Condition(
        "rollout_ahead vllm_mode vllm_structured_outputs_regex vllm_importance_sampling_correction "
        "vllm_importance_sampling_mode "
        "vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min vllm_importance_sampling_cap "
        "vllm_model_impl vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_max_model_length "
        "vllm_tensor_parallel_size vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
        "vllm_group_port",
        "--use_vllm true",
        lambda a: a.use_vllm,
    ),
    Condition(
        "vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout vllm_group_port",
        "--vllm_mode server",
        lambda a: a.vllm_mode == "server",
    ),
    Condition("vllm_lora_sync", "--use_vllm true and --use_peft true", lambda a: a.use_vllm and a.use_peft),
    Condition(
        "vllm_importance_sampling_mode vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
        "vllm_importance_sampling_cap",
        "--vllm_importance_sampling_correction true",
        lambda a: a.vllm_importance_sampling_correction,
    ),
    Condition(
        "perception_entropy_coef perception_masked_entropy_coef",
        "--perception_coef above 0, whose KL they steady",
        lambda a: a.perception_coef,
    ),
    Condition(
        "perception_mask_share",
        "--perception_coef above 0 or --visual_token_share below 1, which mask pictures",
        lambda a: a.perception_coef or a.visual_token_share < 1,
    ),
    Condition("visual_advantage_min", "--visual_token_share below 1", lambda a: a.visual_token_share < 1),
    Condition("noise_step", "--noisy_rollouts above 0", lambda a: a.noisy_rollouts),
    Condition(
        "max_tool_turns max_tool_images max_tool_pixels tool_seconds tool_memory_gb tool_workers tool_errors",
        "--tools or --environment",
        lambda a: a.tools or a.environment,
    ),
    Condition(
        "keep_whole_steps",
        "no --environment: what one shows first is part of prompts, and a replay asks none",
        lambda a: not a.environment,
    ),
    Condition("check_packing", "--shared_prefix true, whose groups it checks", lambda a: a.shared_prefix),
    Condition("cache_implementation", "--use_vllm false, where transformers samples", lambda a: not a.use_vllm),
    Condition(
        "log_multimodal num_completions_to_print log_unique_prompts log_completions_hub_repo",
        "--log_completions true",
        lambda a: a.log_completions,
    ),
    Condition(
        "ds3_gather_for_generation", "--deepspeed and a file of ZeRO stage 3", lambda a: is_stage_3(a.deepspeed)
    ),
    Condition(
        "local_rank",
        "the deepspeed launcher, which passes it; torchrun tells ranks by LOCAL_RANK",
        lambda a: str(a.local_rank) == os.environ.get("LOCAL_RANK"),
    ),
    Condition(
        "load_in_4bit",
        "--use_peft true: 4-bit weights cannot be trained, adapters around them can",
        lambda a: a.use_peft or not a.load_in_4bit,
    ),
    Condition("bnb_4bit_quant_type use_bnb_nested_quant", "--load_in_4bit true", lambda a: a.load_in_4bit),
    Condition("liger_kernel_config", "--use_liger_kernel true", lambda a: a.use_liger_kernel),
    Condition("use_liger_kernel", "liger-kernel installed (pip install liger-kernel)", lambda a: HAS_LIGER),
    Condition(
        "hub_model_id hub_strategy hub_always_push hub_private_repo hub_revision",
        "--push_to_hub true",
        lambda a: a.push_to_hub,
    ),
    Condition(
        "project trackio_space_id trackio_bucket_id trackio_static_space_id",
        "--report_to trackio",
        lambda a: {"trackio", "all"} & {*([a.report_to] if isinstance(a.report_to, str) else a.report_to or ())},
    ),
    Condition("gradient_checkpointing_kwargs", "--gradient_checkpointing true", lambda a: a.gradient_checkpointing),
    Condition("fsdp_config", "--fsdp true", lambda a: a.fsdp),
    Condition("lr_scheduler_kwargs", "another --lr_scheduler_type than constant", lambda a: not is_constant(a)),
    Condition("warmup_steps", "--lr_scheduler_type constant_with_warmup or another", lambda a: not is_constant(a)),
    Condition("save_steps", "--save_strategy steps", lambda a: "steps" in a.save_strategy),
    Condition("logging_steps", "--logging_strategy steps", lambda a: "steps" in a.logging_strategy),
    Condition("eval_steps", "--eval_strategy steps", lambda a: "steps" in a.eval_strategy),
    Condition(
        "eval_delay eval_on_start per_device_eval_batch_size num_generations_eval bf16_full_eval fp16_full_eval",
        "--eval_strategy steps or epoch",
        is_evaluated,
    ),
    Condition(
        "save_total_limit save_only_model save_on_each_node",
        "another --save_strategy than no",
        lambda a: a.save_strategy != "no",
    ),
    Condition(
        "metric_for_best_model greater_is_better",
        "--load_best_model_at_end true, --save_strategy best, or --lr_scheduler_type reduce_lr_on_plateau",
        has_best_model,
    ),
    Condition(
        "dataloader_prefetch_factor dataloader_persistent_workers dataloader_multiprocessing_context "
        "dataloader_in_order",
        "--dataloader_num_workers above 0",
        lambda a: a.dataloader_num_workers,
    ),
)


def refuse_idle_flags(parts: Collection[Any], typed: Collection[str]) -> None:
    """Raises ValueError for the first flag that was set, by the command line (`typed`) or YAML, and could not act as
    its Condition does not hold."""
    args = Namespace(**{name: value for part in parts for name, value in vars(part).items()})
    given = {
        f.name for part in parts for f in fields(part) if f.name in typed or getattr(part, f.name) != default_of(f)
    }
    for condition in CONDITIONS:
        idle = [name for name in condition.flags.split() if name in given]
        if idle and not condition.holds(args):
            raise ValueError(f"--{idle[0]}: acts only with {condition.needs}; add it, or remove --{idle[0]}")


def default_of(flag: Field) -> Any:
    """The default value of a dataclass field."""
    return flag.default if flag.default_factory is MISSING else flag.default_factory()
