#!/usr/bin/env bash
# Thinking with images on a CPU, from nothing: sets up, makes 1,000 scenes whose digits are too small to read, evaluates
# the embedded tiny VLM that knows the tool `zoom` on 256 held-out ones, trains it with GRPO, evaluates again.
#
#   bash run_scripts/quickstart_zoom.sh [more flags of grpo_jsonl.py]
#   SEED=1 OUT=output/zoom1 bash run_scripts/quickstart_zoom.sh
#   TOOLS= OUT=output/without bash run_scripts/quickstart_zoom.sh       # the same training without the tool
#
# STEPS and ROWS change the length of the run and the size of the data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-$PWD/.venv}
SEED=${SEED:-0} OUT=${OUT:-output/quickstart_zoom} STEPS=${STEPS:-60} ROWS=${ROWS:-1000} TOOLS=${TOOLS-zoom}
MODEL=assets/tiny-vlm-zoom DATA=$OUT/data

if [ -e "$OUT/checkpoint" ]; then
  echo "quickstart_zoom.sh: $OUT already holds a run, expected a new folder; remove it, or set OUT=another" >&2
  exit 1
fi

VENV=$VENV bash setup.sh
export PATH=$VENV/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

python local_scripts/make_dataset.py zoom_digits --out "$DATA" --rows "$ROWS" --heldout_rows 256 --seed "$SEED"

tools=(${TOOLS:+--tools "$TOOLS" --max_tool_turns 1})
evaluate() {
  python eval/evaluate.py --model "$1" --task zoom_digits --data_file_paths "$DATA/heldout.jsonl" --image_folders "$DATA" \
    --output_dir "$2" --max_completion_length 128 --batch_size 64 --overwrite "${tools[@]}" > /dev/null
}
echo "Before GRPO: greedy answers on held-out rows"
evaluate "$MODEL" "$OUT/before"

python src/open_r1/grpo_jsonl.py \
  --model_name_or_path "$MODEL" --task_type zoom_digits "${tools[@]}" \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --output_dir "$OUT" --seed "$SEED" --max_steps "$STEPS" \
  --num_generations 8 --per_device_train_batch_size 64 --max_completion_length 128 \
  --learning_rate 1e-4 --lr_scheduler_type linear --warmup_steps 5 --beta 0 \
  --gradient_checkpointing false --save_strategy no --resume_from_checkpoint auto "$@"
if [ ! -e "$OUT/checkpoint" ]; then
  echo "quickstart_zoom.sh: stopped on the way; the same command goes on" >&2
  exit 0
fi

echo "After GRPO: greedy answers on the same rows"
evaluate "$OUT/checkpoint" "$OUT/after"
python local_scripts/quickstart_summary.py "$OUT" --seed "$SEED"
