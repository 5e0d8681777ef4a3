"""Rehearses the first step of a run on a machine without a GPU: errors, memory, operations, time and price.

    python -m open_r1.rehearse --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \\
        --data_file_paths train.jsonl --image_folders images --gpu a100-80 --nproc 8 [more flags of the run]

The run's own code works on CUDA tensors without memory; weights are not read. Exit status 0: the step runs; 1: it
fails, with the first error and its place; 2: what cannot be rehearsed. See assets/docs/rehearsal.md.
"""

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from open_r1.errors import UsageError
from open_r1.rehearse.fake_cuda import hooks
from open_r1.rehearse.flags import parse_rehearsal
from open_r1.rehearse.one_step import rehearse_step
from open_r1.rehearse.places import HERE, PACKAGE, TORCH, short_name
from open_r1.rehearse.report import run_time, show


def first_error(error: Exception) -> str:
    """An error with the innermost line of this package outside of this room, and the one of a library, or here, that
    raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(PACKAGE) and not f.filename.startswith(HERE)] or frames
    raised = [f for f in frames if "site-packages" in f.filename and not f.filename.startswith(TORCH)] or frames
    lines = dict.fromkeys(f"{short_name(f.filename)}:{f.lineno}" for f in (ours[-1], raised[-1]))
    return f"The step fails: {type(error).__name__}: {error}\nat {', in '.join(lines)}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    try:
        asked = parse_rehearsal(sys.argv[1:] if argv is None else argv)
        hooks()
        step = rehearse_step(asked)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        print(first_error(error), file=sys.stderr)
        return 1
    if asked.own.json:
        print(json.dumps(asdict(run_time(asked, step))))
        return 0
    console = Console()
    show(console if console.is_terminal else Console(width=120), asked, step)
    return 0
