#!/usr/bin/env bash
# The main job on a CPU, from nothing: sets up, makes 2,000 rows of handwritten digits, checks them, evaluates the
# embedded tiny VLM on 256 held-out rows, trains it with GRPO, evaluates again, and says where to look.
#
#   bash run_scripts/quickstart.sh [more flags of grpo_jsonl.py]
#   SEED=1 OUT=output/seed1 bash run_scripts/quickstart.sh
#
# STEPS and ROWS change the length of the run and the size of the data. Stopped on the way (Ctrl-C), it goes on by the same
# command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-$PWD/.venv}
SEED=${SEED:-0} OUT=${OUT:-output/quickstart} STEPS=${STEPS:-150} ROWS=${ROWS:-2000}
MODEL=assets/tiny-vlm DATA=$OUT/data

if [ -e "$OUT/checkpoint" ]; then
  echo "quickstart.sh: $OUT already holds a run, expected a new folder; remove it, or set OUT=another" >&2
  exit 1
fi

VENV=$VENV bash setup.sh
export PATH=$VENV/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

python local_scripts/make_dataset.py digits --out "$DATA" --rows "$ROWS" --heldout_rows 256 --seed "$SEED"
python -m open_r1.check --data_file_paths "$DATA/train.jsonl:$DATA/heldout.jsonl" --image_folders "$DATA" \
  --task_type digits --model "$MODEL"

evaluate() {
  python eval/evaluate.py --model "$1" --task digits --data_file_paths "$DATA/heldout.jsonl" --image_folders "$DATA" \
    --output_dir "$2" --max_completion_length 40 --batch_size 64 --overwrite > /dev/null
}
echo "Before GRPO: greedy answers on held-out rows"
evaluate "$MODEL" "$OUT/before"

python src/open_r1/grpo_jsonl.py \
  --model_name_or_path "$MODEL" --task_type digits \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --output_dir "$OUT" --seed "$SEED" --max_steps "$STEPS" \
  --num_generations 8 --per_device_train_batch_size 64 --max_completion_length 40 \
  --learning_rate 1e-4 --lr_scheduler_type linear --warmup_steps 5 --beta 0 \
  --gradient_checkpointing false --save_strategy no --resume_from_checkpoint auto "$@"
if [ ! -e "$OUT/checkpoint" ]; then
  echo "quickstart.sh: stopped on the way; the same command goes on" >&2
  exit 0
fi

echo "After GRPO: greedy answers on the same rows"
evaluate "$OUT/checkpoint" "$OUT/after"
python local_scripts/quickstart_summary.py "$OUT" --seed "$SEED"
