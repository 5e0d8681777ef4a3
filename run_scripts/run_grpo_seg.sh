#!/usr/bin/env bash
# Segmentation as polynomials (the VLM-R1 fork): Qwen2.5-VL-3B on COCO instances, 8 GPUs of 80 GB.
#
# python local_scripts/download_coco_dataset.py --output_dir data/coco   # images and train.jsonl, val.jsonl
# set DATA if it lies elsewhere, then: bash run_scripts/run_grpo_seg.sh [more flags]
#
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA=${DATA:-data/coco}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-SEG}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type seg \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 2048 --learning_rate 1e-6 --beta 0.04 --num_train_epochs 2 --data_seed 42 \
  --save_steps 100 "$@"
