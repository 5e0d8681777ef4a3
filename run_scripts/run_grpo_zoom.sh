#!/usr/bin/env bash
# DeepEyes (arXiv 2505.14362) on one node: Qwen2.5-VL-7B learns when and where to zoom, 8 GPUs of 80 GB.
#
#   set the two paths below (or in the environment), then: bash run_scripts/run_grpo_zoom.sh [more flags]
#   MODEL=Qwen/Qwen3-VL-8B-Instruct bash run_scripts/run_grpo_zoom.sh
#
# Flags are those of verl's recipe/deepeyes on one node: 128 prompts of 8 a step, learning rate 1e-6, no KL, at most four
# calls. Rewards are DeepEyes' accuracy, format, and a bonus only where a tool was used and the answer is right, weighted
# 0.8, 0.2 and 1.2; its judge is `--reward_funcs judge` in place of accuracy. Rows are questions about large pictures
# with small details: `python -m open_r1.convert FOLDER --out data` makes them of V* bench, DeepEyes-47k and ScreenSpot,
# each in the form that it has on the hub; see assets/docs/data.md.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/visual_search.jsonl"}
image_folders=${image_folders:-"path/to/images"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-7B-GRPO-zoom}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type default \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --tools zoom --max_tool_turns 4 --max_tool_images 4 \
  --reward_funcs accuracy format tool_bonus --reward_weights 0.8 0.2 1.2 \
  --deepspeed local_scripts/zero2.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 16 \
  --max_prompt_length 8192 --max_completion_length 10240 \
  --learning_rate 1e-6 --beta 0 --num_train_epochs 1 --save_steps 8 "$@"
