#!/usr/bin/env bash
# R1-V's headline recipe: Qwen2-VL-2B learns to count on CLEVR, 100 steps, 8 GPUs of 80 GB.
#
# bash run_scripts/run_grpo_counting.sh [more flags]
# DATASET=output/of/save_to_disk bash run_scripts/run_grpo_counting.sh      # a local folder instead of the hub
#
# The headline is 48.0 -> 82.5 % on SuperCLEVR-200 after 100 steps of the 2 epochs. One prompt per device is 8 completions.
# Their second recipe adds --num_generations 4 --per_device_train_batch_size 4 --max_completion_length 1024.
# Without CLEVR: python local_scripts/make_dataset.py counting, then grpo_jsonl.py --task_type counting.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUN_NAME=${RUN_NAME:-Qwen2-VL-2B-GRPO-CLEVR-70k}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo.py --task_type counting \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2-VL-2B-Instruct}" \
  --dataset_name "${DATASET:-leonardPKU/clevr_cogen_a_train}" \
  --max_prompt_length 1024 --max_completion_length 512 --max_pixels 401408 \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --learning_rate 1e-6 --beta 0.04 --num_train_epochs 2 --logging_steps 1 \
  --bf16 true --gradient_checkpointing false --save_steps 100 --save_only_model true "$@"
