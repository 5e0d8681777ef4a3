#!/usr/bin/env bash
# Starts a task script, under torchrun where it takes that; the recipes beside it call this one.
#
#   bash run_scripts/launch.sh src/open_r1/grpo_jsonl.py --flag value ...
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=node0 bash run_scripts/run_grpo_rec.sh      # the second of two machines
#
# NPROC        ranks on each machine, the same number on all; default: its GPUs (of CUDA_VISIBLE_DEVICES where that is
#              set), on a single machine no more than the recipe is made for; 1 without a GPU
# NNODES       machines, default 1; several need NODE_RANK (0, 1, ...) and MASTER_ADDR (machine 0, as the others see it)
# MASTER_PORT  where they meet, default 29500; one machine finds a free port by itself
# MADE_FOR     GPUs that a recipe's flags are for. With another number gradient accumulation follows, so that the global
#              batch stays, and stderr says so; --gradient_accumulation_steps behind a recipe is taken as it is.
#              A recipe on a machine without a GPU is refused, but for SMOKE=1 and --use_cpu true.
# USE_VLLM     0: rollouts by transformers; 1: by vLLM, or the run is refused; default: by vLLM, on the run's own GPUs and
#              asleep while it learns, where it is installed and nothing speaks against it, as the first line says
# SMOKE=1      the same in small, two steps of the tiny VLM on made-up rows, to see that a recipe works on this machine
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run_scripts/environment.sh

# DeepSpeed calls collectives that torch has renamed, with a warning for each call
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning}
if [ -n "${SMOKE:-}" ]; then
  small=$(python local_scripts/smoke.py "$@")
  mapfile -t small <<< "$small"
  set -- "$@" "${small[@]}"
  export HF_HUB_OFFLINE=1 NPROC=${NPROC:-1} MADE_FOR=
fi
exec python -m open_r1.config.launcher "$@"
