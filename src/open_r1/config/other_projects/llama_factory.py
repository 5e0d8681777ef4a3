"""Names of LLaMA-Factory."""

from open_r1.config.other_projects import answers as a

LLAMA_FACTORY: dict[str, str] = {
    "stage": "remove it: sft_jsonl.py fine-tunes, grpo_jsonl.py runs GRPO",
    "finetuning_type": a.LORA,
    "dataset_dir": a.DATA,
    "media_dir": "--image_folders",
    "eval_dataset": a.HELD_OUT,
    "val_size": "--val_split_ratio",
    "cutoff_len": "--max_prompt_length",
    "adapter_name_or_path": "--model_name_or_path, with the adapter's folder: it is trained on",
    "lora_target": "--lora_target_modules",
    "freeze_vision_tower": "--freeze_vision_modules",
    "freeze_multi_modal_projector": "--freeze_vision_modules",
    "freeze_language_model": a.NO_COUNTERPART,
    "image_max_pixels": "--max_pixels",
    "image_min_pixels": "--min_pixels",
    "quantization_bit": a.QUANTIZED,
    "enable_liger_kernel": "--use_liger_kernel",
    "pure_bf16": "--bf16 true --dtype bfloat16",
    "upcast_layernorm": a.NO_COUNTERPART,
    "use_unsloth": a.NO_COUNTERPART,
    "preprocessing_num_workers": "--image_workers",
    "overwrite_cache": "remove it: rows are read from their files",
    "tokenized_path": "remove it: rows are read from their files",
    "plot_loss": "remove it: curves are drawn into --output_dir",
    "neat_packing": a.NO_COUNTERPART,
    "train_on_prompt": "remove it: the loss is on the assistant's turns alone",
    "mask_history": "remove it: earlier assistant turns are taught as they stand",
    "additional_target": "--lora_modules_to_save",
}
