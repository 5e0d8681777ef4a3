#!/usr/bin/env bash
# Puts the environment of setup.sh (.venv, or VENV) first on PATH, or keeps the active one; sourced by the scripts beside
# it. Ends them with one sentence where no python there has this package.
set -euo pipefail
export PATH=${VENV:-$PWD/.venv}/bin:$PATH
if ! python -c 'import open_r1' 2>/dev/null; then
  echo "${0##*/}: got $(command -v python || echo "no python") without the package open_r1, expected it installed; run bash setup.sh, or in an environment of your own pip install -e ." >&2
  exit 1
fi
