"""Measure peak memory of a rollout and of a training step on the CPU, and print the planner's figures beside it.

    python local_scripts/dev/benchmarks/measure_memory.py --size 45m --image-tokens 256 --completion 128
    python local_scripts/dev/benchmarks/measure_memory.py --size 45m --gradient-checkpointing

The model is that of `bench_grpo.py`: random weights, float32, one process. The figures are resident memory above that
of the libraries (measured after a step of a model of 1 M parameters), after one whole step of this model, so that the
optimizer has its moments.
"""

import argparse
import ctypes
import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import bench_models as models
import bench_parts as bench
import transformers

from open_r1.config.hardware import prepare
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.models.loading import load_processor
from open_r1.plan.config_numbers import patches_of_token
from open_r1.plan.dims import dims_of
from open_r1.plan.memory import rollout_bytes, total_bytes, training_bytes
from open_r1.plan.settings import FLOAT, PlannedRun
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
SMALL = bench.Shape(image_tokens=4, text_tokens=40, completion=4, group=2, prompts=1)


def training_of(args: argparse.Namespace, shape: bench.Shape, folder: Path) -> GRPOArguments:
    """The flags of a run on rows of `shape`, on the CPU."""
    training = GRPOArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=shape.rows,
        num_generations=shape.group,
        max_completion_length=shape.completion,
        generation_kwargs={"min_new_tokens": shape.completion},
        gradient_checkpointing=args.gradient_checkpointing,
        learning_rate=1e-6,
        beta=args.beta,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    prepare(training)
    return training


def trainer_of(
    args: argparse.Namespace, shape: bench.Shape, folder: Path, training: GRPOArguments | None = None
) -> VLMGRPOTrainer:
    """A trainer of a model of `args.size` on random rows of `shape`, on the device of its arguments."""
    folder.mkdir(exist_ok=True)
    processor = load_processor(VLMConfig(model_name_or_path=str(models.TINY)), TaskArguments(max_pixels=1 << 40))
    records = bench.make_records(shape, processor, folder, 8 * shape.prompts, seed=0)
    training = training or training_of(args, shape, folder)
    model = models.build_model(args.size, "cpu", "float32", seed=0).to(training.device)
    return bench.our_trainer(model, processor, records, training, 0)


def measure(args: argparse.Namespace, shape: bench.Shape, folder: Path) -> dict[str, int]:
    """Bytes above the libraries' own: `state`, and the peaks of `rollout_bytes` and `training_bytes`."""
    transformers.logging.set_verbosity_error()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 18)  # freed memory goes back to the system
    small = trainer_of(argparse.Namespace(**{**vars(args), "size": "tiny"}), SMALL, folder / "small")
    bench.step(small, bench.rows_of(small))
    del small
    baseline = bench.start_of_peak("cpu")
    trainer = trainer_of(args, shape, folder)
    rows = bench.rows_of(trainer)
    bench.step(trainer, rows)
    peaks = {"baseline": baseline, "state": bench.start_of_peak("cpu") - baseline}
    batch = trainer._generate_and_score_completions(next(rows))
    peaks["rollout"] = bench.end_of_peak("cpu") - baseline
    trainer.state.global_step += 1
    bench.start_of_peak("cpu")
    bench.update(trainer, batch)
    trainer.optimizer.step()
    peaks["training"] = bench.end_of_peak("cpu") - baseline
    return peaks | planned_peaks(trainer, args, shape)


def planned_peaks(trainer: VLMGRPOTrainer, args: argparse.Namespace, shape: bench.Shape) -> dict[str, int]:
    """The planner's bytes for the same two peaks."""
    run = PlannedRun(
        prompt_tokens=shape.image_tokens + shape.text_tokens,
        patches_per_prompt=shape.image_tokens * patches_of_token(trainer.model.config),
        completion_tokens=shape.completion,
        group_size=shape.group,
        batch_completions=shape.rows,
        bytes_per_weight=FLOAT,
        bytes_per_computed_number=FLOAT,
        gradient_checkpointing=args.gradient_checkpointing,
        reference_model=args.beta > 0,
        device="cpu",
    )
    dims = dims_of(trainer.model)
    return {
        "planned_rollout": int(total_bytes(rollout_bytes(dims, run))),
        "planned_training": int(total_bytes(training_bytes(dims, run))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=models.SIZES, default="45m")
    parser.add_argument("--image-tokens", type=int, default=256)
    parser.add_argument("--text-tokens", type=int, default=50)
    parser.add_argument("--completion", type=int, default=128)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    args = parser.parse_args()
    shape = bench.Shape(args.image_tokens, args.text_tokens, args.completion, args.group, args.prompts)
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(args, shape, Path(folder))))


if __name__ == "__main__":
    main()
