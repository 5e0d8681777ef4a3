#!/usr/bin/env bash
# VLM-R1's recipe for referring expressions with the knobs people ask for: clip-higher, sampling, pixels, evaluation.
#
# set the two paths below (or in the environment), then: bash run_scripts/run_grpo_rec_more_params.sh [more flags]
#
# --epsilon_high 0.28 clips likelier tokens later than unlikelier ones (DAPO, arXiv 2503.14476).
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/refcoco_train.jsonl:path/to/refcocop_train.jsonl:path/to/refcocog_train.jsonl"}
image_folders=${image_folders:-"path/to/coco:path/to/coco:path/to/coco"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-REC-more-params}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_rec.py \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --max_pixels 12845056 --min_pixels 3136 --val_split_ratio 0.01 --eval_strategy steps --eval_steps 100 \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --num_iterations 1 \
  --max_completion_length 2048 --temperature 1.0 --top_p 1.0 --epsilon 0.2 --epsilon_high 0.28 \
  --learning_rate 1e-6 --lr_scheduler_type cosine --warmup_steps 0 --weight_decay 0.0 --max_grad_norm 1.0 \
  --loss_type grpo --use_bias_correction_kl false \
  --beta 0.04 --num_train_epochs 2 --data_seed 42 --reward_funcs accuracy format --reward_weights 1.0 1.0 \
  --save_steps 100 --save_total_limit 8 --log_completions false "$@"
