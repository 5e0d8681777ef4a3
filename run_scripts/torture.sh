#!/usr/bin/env bash
# Does to the project what the world does to it, and prints a table: fault, what happens, test that shows it, figure.
#
#   bash run_scripts/torture.sh [OUT]        # default: output/torture; about 30 minutes on two cores
#
# Kills a run at twenty moments, plants hangs, deaths and full disks, throws a million hostile inputs at parsers and two
# thousand damaged files at the image loader, starves graders, looks for secrets and unsafe code, trains for 2,000 steps,
# and on 10,000 clips. Each trial is a script of tests/torture; its log and its rows lie in OUT. Status 1 where a promise was broken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-$PWD/.venv} OUT=${1:-output/torture}

VENV=$VENV bash setup.sh --dev --fuzz
export PATH=$VENV/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE
mkdir -p "$OUT"
rm -f "$OUT"/*.json

failed=()
try() {  # NAME [options]
  local name=$1 began=$SECONDS
  shift
  if python "tests/torture/$name.py" "$OUT" "$@" > "$OUT/$name.log" 2>&1; then
    echo "torture.sh: $name passed in $((SECONDS - began)) s" >&2
  else
    echo "torture.sh: $name FAILED after $((SECONDS - began)) s; the end of $OUT/$name.log:" >&2
    tail -n 20 "$OUT/$name.log" >&2
    return 1
  fi
}

try soak & soak=$!  # it takes longest, on one core; the rest takes turns on the other
for name in images graders audit shown fuzz endings kill_anywhere soak_videos; do
  try "$name" || failed+=("$name")
done
wait "$soak" || failed+=(soak)
try slow || failed+=(slow)  # last: it keeps all cores busy

python local_scripts/dev/readme/torture_table.py "$OUT"
if [ ${#failed[@]} -gt 0 ]; then
  echo "torture.sh: FAILED: ${failed[*]}" >&2
  exit 1
fi
