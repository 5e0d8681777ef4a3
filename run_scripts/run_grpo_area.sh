#!/usr/bin/env bash
# VLM Area's recipe on one GPU of 141 GB: Qwen2.5-VL-7B estimates the area of a shape on a 50 x 50 grid.
#
# bash run_scripts/run_grpo_area.sh [more flags]
# OPTIONS="--rotation 45" DATA=data/area-rotated bash run_scripts/run_grpo_area.sh      # their first extension
#
# Makes its dataset in DATA when there is none, with the generator's OPTIONS. What happens in a step of this task is followed
# number by number in assets/docs/grpo.md.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA=${DATA:-data/area}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-7B-GRPO-area}
read -ra options <<< "${OPTIONS:-}"
if [ -z "${SMOKE:-}" ]; then
  MADE_FOR=1 bash run_scripts/launch.sh --needs_gpu "$@"
  bash run_scripts/make_data.sh area "$DATA" --rows 20000 "${options[@]}"
fi

MADE_FOR=1 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type area \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}" \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1 --max_steps 1000 \
  --max_completion_length 1024 --learning_rate 1e-5 --temperature 0.6 --bf16 true --dtype bfloat16 \
  --loss_type grpo --use_bias_correction_kl false \
  --lr_scheduler_type constant_with_warmup --warmup_steps 20 --max_grad_norm 0.5 \
  --gradient_checkpointing true --beta 0.05 \
  --sync_ref_model true --ref_model_mixup_alpha 0.1 --ref_model_sync_steps 200 --save_steps 100 "$@"
