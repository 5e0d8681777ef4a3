#!/usr/bin/env bash
# VLM-R1's LoRA recipe for referring expressions: rank 64, the vision tower as it is, ZeRO-2, 8 GPUs of 40 GB.
#
# set the two paths below (or in the environment), then: bash run_scripts/run_grpo_rec_lora.sh [more flags]
#
# Dropout 0.05 is theirs; with it no two passes agree, so prefixes are not shared. --lora_dropout 0 is several times faster.
# A plain model of it: python local_scripts/merge_lora.py output/RUN_NAME/checkpoint --out output/RUN_NAME/merged
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/refcoco_train.jsonl:path/to/refcocop_train.jsonl:path/to/refcocog_train.jsonl"}
image_folders=${image_folders:-"path/to/coco:path/to/coco:path/to/coco"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-REC-LoRA}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_rec.py \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --use_peft true --lora_r 64 --lora_alpha 128 --lora_dropout 0.05 --freeze_vision_modules true \
  --deepspeed local_scripts/zero2.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_completion_length 2048 --learning_rate 1e-5 --beta 0.04 --num_train_epochs 2 --data_seed 42 \
  --reward_funcs accuracy format --save_steps 100 "$@"
