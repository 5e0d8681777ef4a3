"""The facts that identify a run (flags, data, rewards, processor, model, ranks), compared when it is resumed.

Every field of the arguments stands in exactly one of `MAY_DIFFER` and `SHAPING` (a test holds that). All
fields outside `MAY_DIFFER` are compared, so a flag that a new release of TRL adds is compared until it is listed.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import ProcessorMixin, TrainingArguments

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import rewards_of
from open_r1.data.fingerprint import digest, picture_digest, picture_sizes
from open_r1.data.record import Record
from open_r1.redaction import redacted_values
from open_r1.rewards.judged import facts_of_judge
from open_r1.trainer.checkpointing.file_facts import (
    deepspeed_facts,
    model_facts,
    processor_facts,
    reward_facts,
    template_facts,
)

# Flags that leave the weights after each step what they would have been, by what they do instead.
MAY_DIFFER: dict[str, str] = {
    "paths; the content of data, rewards and DeepSpeed's file is compared": (
        "output_dir data_file_paths image_folders dataset_name dataset_config dataset_train_split "
        "dataset_test_split deepspeed"
    ),
    "what is written and shown": (
        "run_name project trackio_space_id trackio_bucket_id trackio_static_space_id report_to "
        "logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level "
        "log_level_replica include_num_input_tokens_seen disable_tqdm debug skip_memory_metrics "
        "log_completions log_multimodal num_completions_to_print log_unique_prompts log_completions_hub_repo "
        "rollout_groups rollouts_to_keep vision_probe keep_whole_steps"
    ),
    "what is saved, and which checkpoint is the final model": (
        "save_only_model save_strategy save_steps save_on_each_node save_total_limit enable_jit_checkpoint "
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision "
        "load_best_model_at_end metric_for_best_model greater_is_better"
    ),
    "evaluations, which have a random state of their own": (
        "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size prediction_loss_only "
        "eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics "
        "batch_eval_metrics bf16_full_eval fp16_full_eval num_generations_eval eval_packing do_train do_eval "
        "do_predict"
    ),
    "how long the run goes on, and how it ends": (
        "max_steps num_train_epochs hang_timeout on_nonfinite stop_on resume_from_checkpoint "
        "resume_unverified resume_changed ignore_data_skip restore_callback_states_from_checkpoint"
    ),
    "bounds of what is refused or given up": (
        "check_packing max_prompt_length reward_seconds reward_memory_gb rewards_in_process reward_errors "
        "tool_seconds tool_memory_gb tool_errors trust_remote_code"
    ),
    "how ranks, workers and engines are placed": (
        "use_cpu local_rank ddp_timeout ddp_backend ddp_bucket_cap_mb ddp_find_unused_parameters "
        "ddp_broadcast_buffers ddp_static_graph image_workers dataloader_num_workers dataloader_pin_memory "
        "dataloader_persistent_workers dataloader_prefetch_factor tool_workers dataloader_multiprocessing_context "
        "remove_unused_columns label_names length_column_name full_determinism vllm_mode vllm_model_impl "
        "vllm_enable_sleep_mode vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
        "vllm_lora_sync vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length vllm_tensor_parallel_size"
    ),
    "what is computed once or again, exact either way": (
        "shared_prefix prefill_once skip_zero_advantages reuse_old_logps reuse_vision_features "
        "tokens_per_forward gradient_checkpointing gradient_checkpointing_kwargs activation_offloading use_cache "
        "video_cache_gb torch_empty_cache_steps ds3_gather_for_generation"
    ),
}

# Flags that change what a run computes.
SHAPING: dict[str, str] = {
    "prompts and rewards": (
        "task_type prompt_mode prompt_template box_space reward_funcs reward_method reward_weights val_split_ratio "
        "fields columns chat_template_kwargs chat_template_path tools environment max_tool_turns max_tool_images "
        "max_tool_pixels"
    ),
    "the policy": (
        "model_name_or_path model_revision dtype attn_implementation model_init_kwargs freeze_vision_modules "
        "use_peft lora_r lora_alpha lora_dropout lora_vision lora_target_modules lora_target_parameters "
        "lora_modules_to_save lora_task_type use_rslora use_dora load_in_8bit load_in_4bit "
        "bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage disable_dropout cast_lm_head_to_fp32 "
        "router_aux_loss_coef neftune_noise_alpha eos_token pad_token"
    ),
    "pictures and rows": (
        "min_pixels max_pixels max_anyres_num video_fps video_max_frames video_max_pixels video_form "
        "seed data_seed shuffle_dataset dataloader_drop_last "
        "dataloader_in_order train_sampling_strategy accelerator_config dataset_text_field dataset_kwargs "
        "dataset_num_proc max_length truncation_mode packing packing_strategy padding_free pad_to_multiple_of"
    ),
    "batches": (
        "per_device_train_batch_size gradient_accumulation_steps steps_per_generation generation_batch_size "
        "num_iterations num_generations auto_find_batch_size parallelism_config"
    ),
    "rollouts": (
        "max_completion_length temperature top_p top_k min_p repetition_penalty generation_kwargs "
        "cache_implementation use_vllm vllm_structured_outputs_regex use_transformers_continuous_batching "
        "transformers_continuous_batching_config use_transformers_paged max_tool_calling_iterations "
        "rollout_ahead resample_zero_variance row_sampling noisy_rollouts noise_step"
    ),
    "advantages and loss": (
        "beta loss_type epsilon epsilon_high delta importance_sampling_level scale_rewards "
        "multi_objective_aggregation mask_truncated_completions off_policy_mask_threshold "
        "use_bias_correction_kl sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos "
        "vespo_k_neg vespo_lambda_neg top_entropy_quantile entropy_coef use_adaptive_entropy entropy_coef_min "
        "entropy_coef_max entropy_coef_delta entropy_target sync_ref_model ref_model_sync_steps "
        "ref_model_mixup_alpha vllm_importance_sampling_correction vllm_importance_sampling_mode "
        "vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min vllm_importance_sampling_cap "
        "perception_coef perception_mask_share perception_entropy_coef perception_masked_entropy_coef "
        "visual_token_share visual_advantage_min "
        "completion_only_loss assistant_only_loss label_smoothing_factor average_tokens_across_devices"
    ),
    "optimizer": (
        "optim optim_args optim_target_modules learning_rate lr_scheduler_type lr_scheduler_kwargs "
        "warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm"
    ),
    "arithmetic": (
        "bf16 fp16 tf32 torch_compile torch_compile_backend torch_compile_mode use_liger_kernel "
        "liger_kernel_config fsdp fsdp_config"
    ),
}


def run_facts(
    records: Sequence[Record],
    task: TaskArguments,
    training: TrainingArguments,
    model_args: VLMConfig,
    processor: ProcessorMixin,
) -> dict[str, Any]:
    """Flag or property -> value, as JSON holds it; secrets are blanked. The same for all ranks of a run."""
    plugin = training.deepspeed_plugin
    run = {
        "ranks": training.world_size,
        "ZeRO stage": plugin.zero_stage if plugin else None,
        "rows": len(records),
        "sha256 of the data": digest(records),
        "sizes of sampled pictures": picture_sizes(records),
        "sha256 of sampled pictures": picture_digest(records),
        **(run_judge(records, task, training) if isinstance(training, GRPOArguments) else {}),
    }
    files = (
        deepspeed_facts(training.deepspeed)
        | reward_facts((task.task_type, *rewards_of(task), *code_files(training)))
        | processor_facts(processor)
    )
    files |= template_facts(getattr(training, "chat_template_path", None))
    files |= model_facts(model_args, getattr(training, "beta", 0.0))
    facts = run | shaping_flags(task, training, model_args) | files
    return redacted_values(json.loads(json.dumps(facts, default=_plain)))


def run_judge(records: Sequence[Record], task: TaskArguments, training: GRPOArguments) -> dict[str, str | None]:
    """The facts about the judge of a run that may ask it about these rows; {} of another."""
    return facts_of_judge(records, rewards_of(task), (task.task_type, *code_files(training)))


def code_files(training: TrainingArguments) -> list[str]:
    """The user's tools and environment, as their flags name them."""
    environment = getattr(training, "environment", None)
    return [*(getattr(training, "tools", None) or ()), *filter(None, [environment])]


def shaping_flags(*arguments: Any) -> dict[str, Any]:
    """`--flag` -> value of every field that is not in `MAY_DIFFER`."""
    free = names_in(MAY_DIFFER)
    return {f"--{f.name}": getattr(part, f.name) for part in arguments for f in fields(part) if f.name not in free}


def names_in(lists: dict[str, str]) -> set[str]:
    """All names of `MAY_DIFFER` or `SHAPING`."""
    return {name for names in lists.values() for name in names.split()}


def _plain(value: Any) -> Any:
    """A value that JSON cannot hold, as a dictionary or text."""
    return value.to_dict() if hasattr(value, "to_dict") else str(value)
