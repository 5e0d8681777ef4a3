#!/usr/bin/env bash
# R1-V's geometry recipe: Qwen2-VL-7B on GeoQA-8K, 8 GPUs of 80 GB.
#
# bash run_scripts/run_grpo_geoqa.sh [more flags]
# DATASET=output/of/save_to_disk bash run_scripts/run_grpo_geoqa.sh         # a local folder instead of the hub
#
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUN_NAME=${RUN_NAME:-Qwen2-VL-7B-GRPO-GEOQA}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo.py --task_type math \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2-VL-7B-Instruct}" \
  --dataset_name "${DATASET:-leonardPKU/GEOQA_R1V_Train_8K}" \
  --max_prompt_length 1024 --max_completion_length 512 --max_pixels 401408 \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --learning_rate 1e-6 --beta 0.04 --num_train_epochs 2 --logging_steps 1 \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true --save_steps 100 "$@"
