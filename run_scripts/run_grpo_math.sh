#!/usr/bin/env bash
# Multimodal open-r1's recipe: Qwen2-VL-2B on verified multimodal mathematics, 8 GPUs of 80 GB.
#
# bash run_scripts/run_grpo_math.sh [more flags]
# DATASET=output/of/save_to_disk bash run_scripts/run_grpo_math.sh          # a local folder instead of the hub
#
# Own problems become such rows by local_scripts/create_vision_cot_data.py; eval/lmms_eval.sh evaluates the result.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUN_NAME=${RUN_NAME:-Qwen2-VL-2B-GRPO-8k}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo.py --task_type math \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2-VL-2B-Instruct}" \
  --dataset_name "${DATASET:-lmms-lab/multimodal-open-r1-8k-verified}" \
  --max_prompt_length 8192 --max_completion_length 8192 --max_pixels 2359296 \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1 \
  --loss_type grpo --use_bias_correction_kl false \
  --learning_rate 1e-6 --beta 0.04 --num_train_epochs 1 --logging_steps 1 \
  --deepspeed local_scripts/zero3.json --bf16 true \
  --gradient_checkpointing true --save_steps 100 --save_total_limit 8 --save_only_model true "$@"
