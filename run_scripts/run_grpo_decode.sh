#!/usr/bin/env bash
# r1_vlm's message decoding on 3 GPUs: ZeRO-2 with the optimizer on the CPU, Qwen2.5-VL-3B.
#
# bash run_scripts/run_grpo_decode.sh [more flags]                          # words and sequences
# TASK=decode_words bash run_scripts/run_grpo_decode.sh                     # single words
#
# Makes its dataset in DATA when there is none; WORDS=file takes the messages' words from a list, one a line.
# Where the run is placed, and SMOKE=1, are said in launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TASK=${TASK:-decode_sequences}
DATA=${DATA:-data/$TASK}
RUN_NAME=${RUN_NAME:-Qwen2.5-VL-3B-GRPO-$TASK}
if [ -z "${SMOKE:-}" ]; then
  MADE_FOR=3 bash run_scripts/launch.sh --needs_gpu "$@"
  bash run_scripts/make_data.sh "$TASK" "$DATA" --rows 20000 ${WORDS:+--words "$WORDS"}
fi

MADE_FOR=3 exec bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --task_type "$TASK" \
  --output_dir "output/$RUN_NAME" --run_name "$RUN_NAME" \
  --model_name_or_path "${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}" \
  --data_file_paths "$DATA/train.jsonl" --image_folders "$DATA" \
  --deepspeed local_scripts/zero2_offload.json --bf16 true --gradient_checkpointing true \
  --num_generations 9 --per_device_train_batch_size 9 --gradient_accumulation_steps 4 \
  --max_completion_length 1024 --learning_rate 1e-6 --temperature 1.0 \
  --loss_type grpo --use_bias_correction_kl false \
  --beta 0.001 --sync_ref_model true --ref_model_mixup_alpha 1.0 --ref_model_sync_steps 64 --save_steps 100 "$@"
