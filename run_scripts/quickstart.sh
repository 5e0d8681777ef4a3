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
SEED=${SEED:-0} OUT=${OUT:-output/quickstart} STEPS=${STEPS:-150} ROWS=${ROWS:-2000}
TASK=digits MODEL=assets/tiny-vlm TOKENS=40 shared_flags=()
source run_scripts/quickstart_steps.sh

prepare
python -m open_r1.check --data_file_paths "$DATA/train.jsonl:$DATA/heldout.jsonl" --image_folders "$DATA" \
  --task_type "$TASK" --model "$MODEL"
echo "Before GRPO: greedy answers on held-out rows"
evaluate "$MODEL" "$OUT/before"
train "$@"
echo "After GRPO: greedy answers on the same rows"
evaluate "$OUT/checkpoint" "$OUT/after"
python local_scripts/quickstart_summary.py "$OUT" --seed "$SEED"
