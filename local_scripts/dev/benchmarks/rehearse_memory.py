"""Hold the rehearsal's ledger against peaks that `measure_memory.py` measures on the CPU, for four settings.

    python local_scripts/dev/benchmarks/rehearse_memory.py --size 45m

Each setting is measured in a process of its own and rehearsed in another, on fake tensors that take the CPU's kernels:
the same trainer, rows and float32 weights. Printed are the bytes above the libraries', and by how much the rehearsed
peak of training is off; a rollout's is not rehearsed here.
"""

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import bench_models as models
import bench_parts as bench
import measure_memory
import torch
import transformers

from open_r1.rehearse.on_device import on_fake_device
from open_r1.rehearse.values import TOKEN

PLAIN_TOKEN = 300  # of the tiny model's tokenizer: it ends nothing
SETTINGS = (
    "--image-tokens 256 --completion 128",
    "--image-tokens 256 --completion 128 --gradient-checkpointing",
    "--image-tokens 64 --text-tokens 120 --completion 256",
    "--image-tokens 400 --text-tokens 100 --completion 64 --prompts 2",
)


def rehearse(args: argparse.Namespace, shape: bench.Shape, folder: Path) -> dict[str, int]:
    """Bytes of the states after a step, and at the peak of the next update, as `measure_memory.measure` has them."""
    transformers.logging.set_verbosity_error()
    folder.mkdir(exist_ok=True)
    training = measure_memory.training_of(args, shape, folder)
    TOKEN.id = PLAIN_TOKEN
    with on_fake_device(training, kernels="cpu") as books:
        trainer = measure_memory.trainer_of(args, shape, folder, training)
        trainer.agreement_checked = trainer.packing_checked = True
        rows = bench.rows_of(trainer)
        optimizer = trainer.create_optimizer()
        for parameter in trainer.model.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        batch = trainer._generate_and_score_completions(next(rows))
        gc.collect()
        state = books.ledger.alive
        with books.phase("training"):
            bench.update(trainer, batch)
            trainer.optimizer.step()
        return {"state": state, "training": books.ledger.peaks["training"]}


def in_process(script: str, flags: str, size: str) -> dict[str, int]:
    """What a script prints for a setting."""
    command = [sys.executable, str(Path(__file__).with_name(script)), "--size", size, *flags.split()]
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=models.SIZES, default="45m")
    parser.add_argument(
        "--rehearse-only", action="store_true", help="one setting, given by the flags of the other script"
    )
    parser.add_argument("--image-tokens", type=int, default=256)
    parser.add_argument("--text-tokens", type=int, default=50)
    parser.add_argument("--completion", type=int, default=128)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    args = parser.parse_args()
    if args.rehearse_only:
        shape = bench.Shape(args.image_tokens, args.text_tokens, args.completion, args.group, args.prompts)
        with TemporaryDirectory() as folder:
            print(json.dumps(rehearse(args, shape, Path(folder))))
        return
    for setting in SETTINGS:
        measured = in_process("measure_memory.py", setting, args.size)
        rehearsed = in_process("rehearse_memory.py", f"{setting} --rehearse-only", args.size)
        off = rehearsed["training"] / measured["training"] - 1
        kept = {"setting": setting, "measured": measured["training"], "rehearsed": rehearsed["training"]}
        print(json.dumps(kept | {"off": round(off, 3), "states": [measured["state"], rehearsed["state"]]}), flush=True)


if __name__ == "__main__":
    main()
