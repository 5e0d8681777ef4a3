#!/usr/bin/env bash
# A synthetic task's dataset in DATA, unless it is there: made beside it and moved, so that it is whole once it is there,
# also where several nodes of a run share the disk and each begins to make it.
#
#   bash run_scripts/make_data.sh TASK DATA [flags of local_scripts/make_dataset.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
task=$1 data=${2%/}
shift 2
source run_scripts/environment.sh

if [ -e "$data/train.jsonl" ]; then exit 0; fi
part=$data.$(uname -n).$$.part
python local_scripts/make_dataset.py "$task" --out "$part" "$@"
if ! mv -T "$part" "$data" 2>/dev/null; then
  rm -rf "$part"
  if [ ! -e "$data/train.jsonl" ]; then
    echo "make_data.sh: $data: got a folder without train.jsonl, expected none; remove it, or set DATA=another" >&2
    exit 1
  fi
fi
