"""Measure the cost of an evaluation beside generation: loading, processing, scoring, writing.

    python local_scripts/dev/benchmarks/bench_evaluate.py --out assets/benchmarks/evaluate_cpu.json

2,000 rows of the digits task, greedy, once as `eval/evaluate.py` runs them and once as generation alone (every prompt
processed before the clock starts, nothing scored), in turns in one process. Reports the ratio of the medians.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from learning_curves import hardware

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.evaluation.answering import seed_of
from open_r1.evaluation.loader import loader_of
from open_r1.evaluation.run import answer_batches, evaluate, load_rows, row_labels
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.evaluation.transformers_engine import TransformersEngine
from open_r1.models.loading import load_processor
from open_r1.tasks.digits import DigitImages
from open_r1.tasks.export import write_split


class GenerationOnly:
    """Generation of all batches, whose prompts are processed before."""

    def __init__(self, settings: EvaluationSettings):
        records, processor = load_rows(settings), load_processor(VLMConfig(settings.model), TaskArguments())
        self.engine = TransformersEngine(settings, processor, loader_of(records, settings, processor))
        labels, self.batches = row_labels(records), []
        for batch in answer_batches(range(len(records)), settings):
            examples = self.engine.loader.take(batch.row_numbers())
            self.batches.append((examples, [seed_of(settings.seed, batch.mode, labels[row]) for row in batch.rows]))

    def seconds(self) -> float:
        """Seconds of generating all batches."""
        began = time.perf_counter()
        for examples, seeds in self.batches:
            self.engine.answer(examples, seeds)
        return time.perf_counter() - began


def evaluation_seconds(settings: EvaluationSettings) -> float:
    """Seconds of a whole evaluation, from rows to summary, in a new folder."""
    shutil.rmtree(settings.output_dir, ignore_errors=True)
    began = time.perf_counter()
    evaluate(settings)
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="assets/tiny-vlm")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = write_split(Path(folder), "heldout", DigitImages(), args.rows, seed=0)
        settings = EvaluationSettings(
            args.model, [str(data)], folder, Path(folder) / "out", ["digits"], ["digits"], "think", 40
        )
        settings = replace(settings, batch_size=args.batch_size)
        generation_only, times = GenerationOnly(settings), []
        for _ in range(args.repeats):
            times.append((generation_only.seconds(), evaluation_seconds(settings)))
    generation, evaluation = (statistics.median(column) for column in zip(*times, strict=True))
    result = {
        "command": "python local_scripts/dev/benchmarks/bench_evaluate.py",
        "rows": args.rows,
        "batch_size": args.batch_size,
        "generation_seconds": round(generation, 2),
        "evaluation_seconds": round(evaluation, 2),
        "ratio": round(evaluation / generation, 3),
        "hardware": hardware(),
        "date": date.today().isoformat(),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
