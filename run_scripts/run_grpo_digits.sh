#!/usr/bin/env bash
# r1_vlm's digit recognition on 2 GPUs without DeepSpeed: Qwen2.5-VL-3B reads, sorts and adds handwritten digits.
#
# bash run_scripts/run_grpo_digits.sh [more flags]
#
# Makes its dataset in DATA when there is none; MNIST=folder draws MNIST's digits instead of UCI's.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA=${DATA:-data/digits}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-digits}
if [ -z "${SMOKE:-}" ]; then
  MADE_FOR=2 bash run_scripts/launch.sh --needs_gpu "$@"
  bash run_scripts/make_data.sh digits "$DATA" --rows 20000 ${MNIST:+--mnist "$MNIST"}
fi

MADE_FOR=2 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type digits \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --num_generations 9 --per_device_train_batch_size 9 --gradient_accumulation_steps 4 \
  --max_completion_length 512 --learning_rate 1e-6 --lr_scheduler_type cosine --adam_beta2 0.98 \
  --temperature 1.0 --bf16 true --gradient_checkpointing true \
  --loss_type grpo --use_bias_correction_kl false \
  --beta 0.001 --sync_ref_model true --ref_model_mixup_alpha 1.0 --ref_model_sync_steps 64 --save_steps 100 "$@"
