#!/usr/bin/env bash
# R1-V's supervised fine-tuning on distilled traces: Qwen2-VL-2B, 8 GPUs of 80 GB; a start for GRPO.
#
#   python local_scripts/distill_r1.py ...      # CLEVR scenes -> verified traces, as JSONL
#   set the two paths below (or in the environment), then: bash run_scripts/run_sft.sh [more flags]
#   MODEL=output/Qwen2-VL-2B-SFT/checkpoint bash run_scripts/run_grpo_counting.sh
#
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/traces.jsonl"}
image_folders=${image_folders:-"path/to/clevr/images"}
RUN_NAME=${RUN_NAME:-Qwen2-VL-2B-SFT}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/sft_jsonl.py --task_type counting \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2-VL-2B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --deepspeed local_scripts/zero2.json --bf16 true --gradient_checkpointing true \
  --per_device_train_batch_size 4 --gradient_accumulation_steps 4 --max_pixels 401408 \
  --learning_rate 2e-5 --lr_scheduler_type cosine --warmup_steps 0.1 --num_train_epochs 1 --save_steps 100 "$@"
