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
SEED=${SEED:-0} OUT=${OUT:-output/quickstart_zoom} STEPS=${STEPS:-60} ROWS=${ROWS:-1000} TOOLS=${TOOLS-zoom}
TASK=zoom_digits MODEL=assets/tiny-vlm-zoom TOKENS=128 shared_flags=(${TOOLS:+--tools "$TOOLS" --max_tool_turns 1})
source run_scripts/quickstart_steps.sh

prepare
echo "Before GRPO: greedy answers on held-out rows"
evaluate "$MODEL" "$OUT/before"
train "$@"
echo "After GRPO: greedy answers on the same rows"
evaluate "$OUT/checkpoint" "$OUT/after"
python local_scripts/quickstart_summary.py "$OUT" --seed "$SEED"
