#!/usr/bin/env bash
# Video-R1 (arXiv 2503.21776) on one node: Qwen2.5-VL-7B reasons about clips, 8 GPUs of 80 GB.
#
#   set the two paths below (or in the environment), then: bash run_scripts/run_grpo_video.sh [more flags]
#
# Flags are those of Video-R1's GRPO: two frames a second, 16 at most, of 128 tokens each (128 x 28 x 28 pixels), pictures
# up to 401408 pixels, a prompt of 8 completions on each GPU, learning rate 1e-6 on a cosine, KL 0.04, gradients cut at 5. It
# starts from its SFT on 165k traces, MODEL=Video-R1/Qwen2.5-VL-7B-COT-SFT, and evaluates with more frames:
# eval/evaluate.py --video_max_frames 32 --video_max_pixels 200704. Two of its rewards are not there: T-GRPO's for a
# group that does better than one with shuffled frames, and 0.2 for right answers of 320 to 512 tokens; whether the order of
# frames matters is seen with --vision_probe and by an evaluation with --view shuffled_frames.
# Rows name clips, pictures or both; see assets/docs/data.md. Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data_paths=${data_paths:-"path/to/video_questions.jsonl"}
image_folders=${image_folders:-"path/to/videos"}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-7B-GRPO-video}

MADE_FOR=8 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type default \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}" \
  --data_file_paths "$data_paths" --image_folders "$image_folders" \
  --video_fps 2 --video_max_frames 16 --video_max_pixels 100352 --max_pixels 401408 \
  --deepspeed local_scripts/zero3.json --bf16 true --gradient_checkpointing true \
  --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1 \
  --loss_type grpo --use_bias_correction_kl false \
  --max_prompt_length 16384 --max_completion_length 768 \
  --learning_rate 1e-6 --lr_scheduler_type cosine --weight_decay 0.01 --max_grad_norm 5 --beta 0.04 \
  --reward_funcs accuracy format --num_train_epochs 1 --save_steps 100 "$@"
