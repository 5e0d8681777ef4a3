#!/usr/bin/env bash
# VLM-R1's recipe for referring expression comprehension: Qwen2.5-VL-3B on RefCOCO/+/g, 8 GPUs of 80 GB.
#
#   set the two paths below (or in the environment), then: bash run_scripts/run_grpo_rec.sh [more flags]
#
# The global batch is 8 GPUs x 8 completions x 2; where the run is placed is said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/refcoco_train.jsonl:path/to/refcocop_train.jsonl:path/to/refcocog_train.jsonl"}
image_folders=${image_folders:-"path/to/coco:path/to/coco:path/to/coco"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-REC}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_rec.py \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 2048 --learning_rate 1e-6 --beta 0.04 --num_train_epochs 2 --data_seed 42 \
  --reward_funcs accuracy format --save_steps 100 "$@"
