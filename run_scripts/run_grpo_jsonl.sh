#!/usr/bin/env bash
# GRPO on your own JSONL and image folders (the line format: assets/docs/data.md): Qwen2.5-VL-3B, GPUs of 80 GB.
#
#   set the paths and the method below (or in the environment), then: bash run_scripts/run_grpo_jsonl.sh [more flags]
#
# Where the run is placed is said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/train.jsonl:path/to/more.jsonl"}
image_folders=${image_folders:-"path/to/images:path/to/more_images"}
reward_method=${reward_method:-default}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" --reward_method "$reward_method" \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 1024 --learning_rate 1e-6 --beta 0.04 --val_split_ratio 0 \
  --save_steps 100 "$@"
