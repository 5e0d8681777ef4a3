#!/usr/bin/env bash
# Referring expressions with Qwen2.5-VL-7B on one card of 16 GB that has bfloat16 (Ampere or newer): the base model in 4
# bits, LoRA of rank 32, moments in 8 bits.
#
# bash setup.sh --quant, set the two paths below (or in the environment), then: bash run_scripts/run_grpo_rec_16gb.sh [more flags]
#
# Planned peak: 11.7 GiB in training and in rollouts. With room left, raise --max_completion_length or --max_pixels first.
# Whole weights for vLLM: python local_scripts/merge_lora.py output/RUN_NAME/checkpoint --out output/RUN_NAME/merged
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/refcoco_train.jsonl:path/to/refcocop_train.jsonl:path/to/refcocog_train.jsonl"}
image_folders=${image_folders:-"path/to/coco:path/to/coco:path/to/coco"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-7B-GRPO-REC-16GB}

MADE_FOR=1 exec bash run_scripts/launch.sh src/open_r1/grpo_rec.py \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --use_peft true --lora_r 32 --lora_alpha 64 --freeze_vision_modules true \
  --load_in_4bit true --use_bnb_nested_quant true --optim adamw_bnb_8bit \
  --bf16 true --gradient_checkpointing true --max_pixels 401408 \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 4 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 512 --learning_rate 1e-5 --beta 0.04 --num_train_epochs 1 --data_seed 42 \
  --reward_funcs accuracy format --save_steps 100 "$@"
