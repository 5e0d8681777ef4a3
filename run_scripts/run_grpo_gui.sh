#!/usr/bin/env bash
# VLM-R1's multi-image recipe: two screenshots a row, is there a defect? Qwen2.5-VL-3B, 8 GPUs of 80 GB, 1200 steps.
#
# set the two paths below (or in the environment), then: bash run_scripts/run_grpo_gui.sh [more flags]
#
# Theirs holds 2 completions per device and spreads a group of 8 over four GPUs. A group stays on its GPU here, so that its
# prompt and both screenshots are computed once; a step therefore has 8 prompts instead of 2.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/gui_multi-image.jsonl"}
image_folders=${image_folders:-"path/to/gui_multi-image"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-GUI}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type gui --reward_method all_match \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 2048 --learning_rate 1e-6 --beta 0.04 --max_steps 1200 --data_seed 42 \
  --save_steps 100 "$@"
