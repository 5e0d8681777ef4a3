"""Measure rollout, update and step of two checkouts of this repository in turns: whether a change costs time.

    git worktree add ../before COMMIT
    OMP_NUM_THREADS=1 taskset -c 0 python local_scripts/dev/benchmarks/two_checkouts.py ../before . [--size 45m]

Each checkout has a process of its own, with the same random Qwen2.5-VL, rows and flags; they take turns on the core,
and which is first changes each time. Figures are CPU seconds: medians, and the median of the ratios of neighbours. The
checkouts must share `bench_parts.py`'s functions and this environment's packages.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

MEASURES = ("rollout", "update", "step")
SHAPE = ("image_tokens", "text_tokens", "completion", "group", "prompts")


def serve(repository: str, size: str, shape: list[int]) -> None:
    """In the process of a checkout: the CPU seconds of each measure that is asked for."""
    sys.path.insert(0, f"{repository}/local_scripts/dev/benchmarks")
    import bench_models as models
    import bench_parts as bench

    from open_r1.config.hardware import prepare
    from open_r1.config.model_arguments import VLMConfig
    from open_r1.config.task_arguments import TaskArguments
    from open_r1.config.training_arguments import GRPOArguments
    from open_r1.models.loading import load_processor

    sizes = bench.Shape(*shape)
    processor = load_processor(VLMConfig(model_name_or_path=str(models.TINY)), TaskArguments(max_pixels=1 << 40))
    with TemporaryDirectory() as folder:
        records = bench.make_records(sizes, processor, Path(folder), 40 * sizes.prompts, 0)
        training = GRPOArguments(
            output_dir=folder,
            per_device_train_batch_size=sizes.rows,
            num_generations=sizes.group,
            max_completion_length=sizes.completion,
            generation_kwargs={"min_new_tokens": sizes.completion},
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to="none",
            disable_tqdm=True,
        )
        prepare(training)
        model = models.build_model(size, "cpu", "float32", 0, "qwen2_5_vl")
        trainer = bench.our_trainer(model, processor, records, training, 0)
        rows = bench.rows_of(trainer)
        batch = bench.batch_of(trainer, next(rows), bench.random_completions(sizes, False, 0))
        measures = {
            "rollout": lambda: bench.rollout(trainer, rows, sizes),
            "update": lambda: bench.update(trainer, batch),
            "step": lambda: bench.step(trainer, rows),
        }
        print("ready", flush=True)
        for line in sys.stdin:
            began = time.process_time()
            measures[line.strip()]()
            print(json.dumps(time.process_time() - began), flush=True)
            trainer.model.zero_grad()


def started(repository: Path, args: argparse.Namespace) -> subprocess.Popen[str]:
    """The process of a checkout, which is ready."""
    words = [__file__, "--serve", str(repository.resolve()), "--size", args.size]
    words += [word for name in SHAPE for word in (f"--{name}", str(getattr(args, name)))]
    env = {**os.environ, "PYTHONPATH": str(repository.resolve() / "src")}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *words], stdin=pipe, stdout=pipe, text=True, env=env)
    if not any(line.strip() == "ready" for line in iter(process.stdout.readline, "")):
        raise SystemExit(f"{repository}: its process ended before it was ready")
    return process


def asked(process: subprocess.Popen[str], measure: str) -> float:
    """CPU seconds of a measure."""
    print(measure, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def compare(args: argparse.Namespace) -> None:
    """Print the figures."""
    checkouts = [started(repository, args) for repository in args.checkouts]
    seconds = {measure: ([], []) for measure in MEASURES}
    for turn in range(1 + args.repeats):
        for measure, found in seconds.items():
            for place in (0, 1) if turn % 2 else (1, 0):
                spent = asked(checkouts[place], measure)
                found[place].extend([spent] if turn else [])  # the first warms up
    for measure, (before, after) in seconds.items():
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        medians = f"{median(before):.3f} and {median(after):.3f} s"
        print(f"{measure}: {medians}, {median(after) / median(before):.3f}; median of ratios {median(ratios):.3f}")
    for process in checkouts:
        process.stdin.close()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="*", help="two: before and after")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--size", default="45m", help="of bench_models")
    parser.add_argument("--repeats", type=int, default=14)
    for name, value in zip(SHAPE, (128, 48, 48, 8, 1), strict=True):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.size, [getattr(args, name) for name in SHAPE])
    elif len(args.checkouts) != 2:
        parser.error("expected two checkouts: before and after")
    else:
        compare(args)


if __name__ == "__main__":
    main()
