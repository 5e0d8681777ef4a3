#!/usr/bin/env bash
# Videos on a CPU, from nothing: sets up, encodes 2,000 clips in which a shape moves, turns, changes its colour or comes and
# goes, evaluates the embedded tiny VLM on 256 held-out ones, trains it with GRPO, evaluates again. Both evaluations are
# also made with each clip's frames in another order, which must cost the accuracy that time gives.
#
#   bash run_scripts/quickstart_video.sh [more flags of grpo_jsonl.py]
#   SEED=1 OUT=output/video1 bash run_scripts/quickstart_video.sh
#
# STEPS and ROWS change the length of the run and the size of the data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SEED=${SEED:-0} OUT=${OUT:-output/quickstart_video} STEPS=${STEPS:-100} ROWS=${ROWS:-2000}
TASK=motion MODEL=assets/tiny-vlm-motion TOKENS=40 shared_flags=()
source run_scripts/quickstart_steps.sh

prepare
python -m open_r1.check --data_file_paths "$DATA/train.jsonl:$DATA/heldout.jsonl" --image_folders "$DATA" \
  --task_type "$TASK" --model "$MODEL"
echo "Before GRPO: greedy answers on held-out rows"
evaluate "$MODEL" "$OUT/before"
evaluate "$MODEL" "$OUT/before_shuffled" --view shuffled_frames
train "$@"
echo "After GRPO: greedy answers on the same rows"
evaluate "$OUT/checkpoint" "$OUT/after"
evaluate "$OUT/checkpoint" "$OUT/after_shuffled" --view shuffled_frames
python local_scripts/quickstart_summary.py "$OUT" --seed "$SEED"
