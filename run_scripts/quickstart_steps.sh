#!/usr/bin/env bash
# The steps that the quickstarts share; sourced by them once TASK, MODEL, SEED, OUT, STEPS, ROWS and TOKENS are set, and
# `shared_flags`, an array of flags that training and evaluation both get.
# shellcheck disable=SC2154  # the script that sources this one sets it
set -euo pipefail
VENV=${VENV:-$PWD/.venv} DATA=$OUT/data

# Refuses a folder with a run, sets up, makes the rows.
prepare() {
  if [ -e "$OUT/checkpoint" ]; then
    echo "${0##*/}: $OUT already holds a run, expected a new folder; remove it, or set OUT=another" >&2
    exit 1
  fi
  VENV=$VENV bash setup.sh
  export PATH=$VENV/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
  python local_scripts/make_dataset.py "$TASK" --out "$DATA" --rows "$ROWS" --heldout_rows 256 --seed "$SEED"
}

# evaluate MODEL FOLDER [flags]: greedy answers on the held-out rows.
evaluate() {
  python eval/evaluate.py --model "$1" --task "$TASK" --data_file_paths "$DATA/heldout.jsonl" --image_folders "$DATA" \
    --output_dir "$2" --max_completion_length "$TOKENS" --batch_size 64 --overwrite "${shared_flags[@]}" "${@:3}" > /dev/null
}

# train [flags]: GRPO on the training rows; ends the script where it was stopped on the way.
train() {
  python src/open_r1/grpo_jsonl.py \
    --model_name_or_path "$MODEL" --task_type "$TASK" "${shared_flags[@]}" \
    --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
    --output_dir "$OUT" --seed "$SEED" --max_steps "$STEPS" \
    --num_generations 8 --per_device_train_batch_size 64 --max_completion_length "$TOKENS" \
    --learning_rate 1e-4 --lr_scheduler_type linear --warmup_steps 5 --beta 0 \
    --gradient_checkpointing false --save_strategy no --resume_from_checkpoint auto "$@"
  if [ ! -e "$OUT/checkpoint" ]; then
    echo "${0##*/}: stopped on the way; the same command goes on" >&2
    exit 0
  fi
}
