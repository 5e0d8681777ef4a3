#!/usr/bin/env bash
# Detection with VLM-R1's AP rewards: Qwen2.5-VL-3B on your own boxes, 8 GPUs of 80 GB.
#
# set the paths below (or in the environment), then: bash run_scripts/run_grpo_od.sh [more flags]
#
# reward_method: od_ap, od_ap50, odLength (AP, less for superfluous boxes) or weighted_sum (position and completeness).
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/detection.jsonl"}
image_folders=${image_folders:-"path/to/images"}
reward_method=${reward_method:-odLength}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-OD}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type od --reward_method "$reward_method" \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 2048 --learning_rate 1e-6 --beta 0.04 --num_train_epochs 2 --data_seed 42 \
  --save_steps 100 "$@"
