#!/usr/bin/env bash
# Serves a model for rollouts, on GPUs of its own; a run uses it with --use_vllm true --vllm_mode server.
#
#   bash run_scripts/vllm_server.sh Qwen/Qwen2.5-VL-3B-Instruct [more flags of vLLM]
#   CUDA_VISIBLE_DEVICES=6,7 bash run_scripts/vllm_server.sh output/sft/checkpoint --tensor-parallel-size 2
#
# HOST and PORT (default 127.0.0.1 and 8000: whoever reaches them can replace the weights, so open them to the
# trainer's nodes alone) are what the run is given as --vllm_server_host and --vllm_server_port.
# --enable-lora --max-lora-rank R is for runs with --vllm_lora_sync adapter, --enable-scale-out for --tools.
# DTYPE (default: bfloat16 with a CUDA device, else float32) is what the policy computes in.
set -euo pipefail
model=${1:?vllm_server.sh: name the model that is trained: bash run_scripts/vllm_server.sh MODEL}
shift
if [ -d "$model" ]; then model=$(realpath "$model"); fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run_scripts/environment.sh
python -c 'from importlib.util import find_spec; exit(not find_spec("vllm"))' ||
  { echo "vllm_server.sh: vLLM is not installed; run: bash setup.sh --vllm" >&2; exit 1; }

flags=()
if nvidia-smi -L 2>/dev/null | grep -q GPU; then
  dtype=bfloat16
else
  dtype=float32 flags+=(--enforce-eager --no-enable-chunked-prefill)
  export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_CPU_OMP_THREADS_BIND=${VLLM_CPU_OMP_THREADS_BIND:-nobind}
fi

# the development endpoints are those that take new weights; an adapter is given a name at run time
export VLLM_SERVER_DEV_MODE=1
if [[ " $* " == *" --enable-lora "* ]]; then export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1; fi
exec python -m vllm.entrypoints.openai.api_server --model "$model" --dtype "${DTYPE:-$dtype}" \
  --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
  --worker-extension-cls open_r1.rollout.vllm.worker.WeightSync --logprobs-mode processed_logprobs \
  --generation-config vllm --enable-prefix-caching --trust-request-mm-kwargs --enable-scale-out "${flags[@]}" "$@"
