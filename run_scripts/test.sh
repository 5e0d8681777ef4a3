#!/usr/bin/env bash
# Sets up and runs the tests.
#
#   bash run_scripts/test.sh [--all] [pytest arguments]
#
# Without --all: the fast tests, 3 minutes together on 2 cores. With it: every test but those that need a CUDA
# device, the linters, and the quickstart's own promise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-$PWD/.venv}

all=""
if [ "${1:-}" = --all ]; then all=1; shift; fi

VENV=$VENV bash setup.sh --dev ${all:+--browser}
unset PYTHONDONTWRITEBYTECODE  # dozens of processes would compile torch and transformers anew
export PATH=$VENV/bin:$PATH HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} TOKENIZERS_PARALLELISM=false
# files of tests at a time, in the order of tests/conftest.py: most of what they do keeps one core busy, and tests of
# hangs, signals and deadlines wait for minutes in all, so that there are more of them than cores
files=(-n 3 --dist loadfile --no-loadscope-reorder)
if [ -n "$all" ]; then
  ruff check .
  ruff format --check .
  shellcheck -x setup.sh run_scripts/*.sh run_scripts/slurm.sbatch eval/*.sh .ci/run
  # TRL and peft import vLLM and bitsandbytes wherever they are installed, which costs every process seconds: an
  # environment of their own, which is made while the first tests run
  made=$(mktemp)
  VENV=$VENV-vllm bash setup.sh --dev --quant --vllm > "$made" 2>&1 &
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} python -m pytest "${files[@]}" -m "not gpu and not vllm and not quant" --durations=15 "$@"
  wait $! || { cat "$made" >&2; exit 1; }
  cat "$made"; rm "$made"
  # of all files those alone that name these markers: a worker takes 15 s to collect the others
  if [ $# = 0 ]; then mapfile -t marked < <(grep -rlE 'mark\.(vllm|quant)\b' tests --include='*.py'); set -- "${marked[@]}"; fi
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} exec "$VENV-vllm/bin/python" -m pytest "${files[@]}" -n 2 -m "(vllm or quant) and not gpu" --durations=15 "$@"
fi
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} exec python -m pytest "${files[@]}" "$@"
