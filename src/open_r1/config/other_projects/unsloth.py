"""Names of unsloth: arguments of its functions, as users type them as flags."""

from open_r1.config.other_projects import answers as a

UNSLOTH: dict[str, str] = {
    "model_name": "--model_name_or_path",
    "max_seq_length": "--max_prompt_length and --max_completion_length, in tokens",
    "load_in_16bit": "--dtype bfloat16",
    "load_in_fp8": a.QUANTIZED,
    "full_finetuning": "leave --use_peft out to train all weights",
    "fast_inference": a.VLLM,
    "max_lora_rank": "--lora_r",
    "r": "--lora_r",
    "gpu_memory_utilization": "--vllm_gpu_memory_utilization",
    "finetune_vision_layers": "--lora_vision",
    "finetune_language_layers": "remove it: LoRA always adapts the language model",
    "finetune_attention_modules": "--lora_target_modules q_proj k_proj v_proj o_proj",
    "finetune_mlp_modules": "--lora_target_modules gate_proj up_proj down_proj",
    "use_gradient_checkpointing": "--gradient_checkpointing",
    "random_state": "--seed",
    "unsloth_num_chunks": a.NO_COUNTERPART,
    "unsloth_grpo_mini_batch": a.NO_COUNTERPART,
    "unsloth_logit_chunk_multiplier": a.NO_COUNTERPART,
}
