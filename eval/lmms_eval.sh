#!/usr/bin/env bash
# A checkpoint on public benchmarks by lmms-eval: MMMU (val), MathVista (testmini) and MMMU-Pro.
#
#   bash eval/lmms_eval.sh MODEL [more flags of lmms_eval]        # MODEL: hub name or folder of a checkpoint
#
# TASKS (default: mmmu_val,mathvista_testmini,mmmu_pro), OUT (default: output/lmms_eval/MODEL), NPROC (default: all GPUs,
# or 1), BATCH (default: 1), MAX_PIXELS (default: 2359296, as in training), MAX_NEW_TOKENS (default: 4096: the tasks' own
# limits of 128 and 256 cut a model off that thinks first), PORT of the ranks.
# FAMILY is lmms-eval's name of the architecture (default: by the checkpoint's config.json).
# lmms-eval pins other versions than this repository, so it lives in an environment of its own: PYTHON is its interpreter.
# MathVista reads free answers with a model of OpenAI's API: OPENAI_API_KEY, and OPENAI_API_URL for another server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=${1:-}
if [ -z "$model" ]; then
  echo "eval/lmms_eval.sh: got no MODEL, expected a hub name or a folder; bash eval/lmms_eval.sh MODEL" >&2
  exit 2
fi
shift
PYTHON=${PYTHON:-${VENV:-$PWD/.venv}/bin/python}
if ! "$PYTHON" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("lmms_eval") is None)'; then
  echo "eval/lmms_eval.sh: $PYTHON has no lmms_eval, expected lmms-eval 0.7; install it in an environment of its own:" >&2
  echo "  uv venv .venv-lmms && uv pip install --python .venv-lmms lmms_eval==0.7.3" >&2
  echo "  PYTHON=.venv-lmms/bin/python bash eval/lmms_eval.sh $model" >&2
  exit 1
fi

if [ -z "${FAMILY:-}" ]; then
  config=$model/config.json
  if [ ! -d "$model" ]; then
    config=$("$PYTHON" -c 'import sys; from huggingface_hub import hf_hub_download
print(hf_hub_download(sys.argv[1], "config.json"))' "$model")
  elif [ ! -f "$config" ]; then
    echo "eval/lmms_eval.sh: got a folder without config.json, expected a whole checkpoint: $model; merge an adapter" \
      "into its model first" >&2
    exit 1
  fi
  kind=$("$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1])).get("model_type"))' "$config")
  case $kind in
    qwen2_vl | qwen2_5_vl | qwen3_vl | aria) FAMILY=$kind ;;
    qwen3_vl_moe) FAMILY=qwen3_vl ;;
    internvl) FAMILY=internvl_hf ;;
    *)
      echo "eval/lmms_eval.sh: got a checkpoint of type $kind, expected one of qwen2_vl, qwen2_5_vl, qwen3_vl," \
        "qwen3_vl_moe, internvl, aria; set FAMILY to lmms-eval's name of it (python -m lmms_eval --help)" >&2
      exit 1
      ;;
  esac
fi
model_args=pretrained=$model
case $FAMILY in
  qwen*) model_args+=,max_pixels=${MAX_PIXELS:-2359296} ;;
esac

gpus=$( { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
out=${OUT:-output/lmms_eval/$(basename "$model")}
exec "$PYTHON" -m accelerate.commands.launch --num_processes "${NPROC:-$((gpus > 0 ? gpus : 1))}" \
  --main_process_port "${PORT:-12346}" -m lmms_eval \
  --model "$FAMILY" --model_args "$model_args" --tasks "${TASKS:-mmmu_val,mathvista_testmini,mmmu_pro}" \
  --batch_size "${BATCH:-1}" --gen_kwargs "max_new_tokens=${MAX_NEW_TOKENS:-4096}" \
  --log_samples --output_path "$out" "$@"
