#!/usr/bin/env bash
# Starts a task script under torchrun; the recipes beside it call this one.
#
#   bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --flag value ...
#
# NPROC (default: all GPUs of this machine, or 1), NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT place the run.
# MOST=n: a recipe made for n GPUs takes no more of them by itself.
# SMOKE=1: the same in small, two steps of the tiny VLM on made-up rows, to see that a recipe works on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=${VENV:-$PWD/.venv}/bin:$PATH

# DeepSpeed calls collectives that torch has renamed, with a warning for each call
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning}
if [ -n "${SMOKE:-}" ]; then
  small=$(python local_scripts/smoke.py "$@")
  mapfile -t small <<< "$small"
  set -- "$@" "${small[@]}"
  export HF_HUB_OFFLINE=1 NPROC=${NPROC:-1}
fi

gpus=$( { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
gpus=$((gpus > 0 ? gpus : 1)) most=${MOST:-$gpus}
exec torchrun --nproc_per_node="${NPROC:-$((gpus < most ? gpus : most))}" --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-12345}" "$@"
