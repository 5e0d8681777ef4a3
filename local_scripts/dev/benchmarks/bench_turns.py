"""Measure a rollout of `zoom_digits` with tools: turns from the kept cache and turns that read all anew, in turns.

    OMP_NUM_THREADS=1 taskset -c 0 python local_scripts/dev/benchmarks/bench_turns.py [--turns 3 --json turns.json]
    OMP_NUM_THREADS=1 python local_scripts/dev/benchmarks/bench_turns.py --seconds 0.1     # a slow tool
    OMP_NUM_THREADS=1 python local_scripts/dev/benchmarks/bench_turns.py --seconds 0.1 --vllm --uneven

A batch of --prompts x --group completions is sampled by the rollouts of training (`rollout_with_tools`) with the real
`zoom`; a stand-in reads a call of it from each turn, whatever the model wrote, so that every row goes through all.
Measured: CPU seconds of this process (the tools' workers are others), those within the model's calls that read prompts
and answers, and the highest resident bytes above those before (`bench_parts.PEAK`). One warm-up each, then in turn
--repeats times, both from the same seed; medians. The tokens of both ways are compared: they are the same.

With --seconds the tool sleeps that long before it zooms, and the ways are tools that begin when a round of turns has
ended, and tools that begin as each row ends; seconds are those of the clock. With --uneven it sleeps between nothing
and twice as long, by the box. With --vllm a colocated vLLM samples, where a row of the second way goes on as soon as
its tool has answered.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import bench_parts as bench
import torch

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.models.loading import load_processor
from open_r1.rollout import generation
from open_r1.rollout.kept_turns import KeptTurns
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import OpenTurns, TurnRollout, prefilled
from open_r1.rollout.vllm.turn_requests import TurnRequests
from open_r1.rollout.vllm.types import Request, SampledCompletion
from open_r1.tasks.export import write_split
from open_r1.tasks.find import find_task
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.toolbox import Toolbox
from open_r1.trainer import transformers_rollout, vllm_turns
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.run import make_grpo_trainer, start_rewards
from open_r1.trainer.tool_turns import toolbox_of

SLOW = '''
import time
from PIL import Image

def zoom(images: list, bbox_2d: list[int]) -> Image.Image:
    """Zooms."""
    time.sleep({seconds} * ((bbox_2d[0] + bbox_2d[1]) / 42 if {uneven} else 1))
    return images[0].crop(bbox_2d).resize((112, 56))
'''


class EndedTogether(OpenTurns):
    """Turns of which none ends before all have."""

    def end(self, place: int, segment: Segment) -> bool:
        return True

    def end_others(self, ids: Sequence[Sequence[int]]) -> None:
        for place, each in enumerate(ids):
            super().end(place, Segment(each, sampled=True))


class InRounds(KeptTurns):
    """Turns whose tools begin when all have ended."""

    def __call__(self, turns: OpenTurns) -> None:
        super().__call__(EndedTogether(turns.sampler, turns.ask, turns.numbers, turns.rows))


class RequestsInRounds(TurnRequests):
    """Requests of turns whose tools begin when all have ended, and of which none begins before all have answered."""

    awaited = ()

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.done: dict[int, list[SampledCompletion]] = {}

    def take(self) -> list[Request]:
        return super().take() if self.places is None else []

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        self.done[number] = completions
        for each in sorted(self.done) if len(self.done) == len(self.places) else ():
            super().completed(each, self.done[each])


WAYS = {"anew": prefilled, "kept": KeptTurns}
SLOW_WAYS = {"rounds": InRounds, "at_once": KeptTurns}
VLLM_WAYS = {"rounds": RequestsInRounds, "at_once": TurnRequests}
CORNERS = ((0, 0), (56, 0), (0, 28), (56, 28))


class Looking(Toolbox):
    """Reads a call of `zoom` from every turn that has ended, for a quarter of the scene that its words choose."""

    def read(self, text: str, in_thinking: bool = False) -> tuple[ToolCall, ...]:
        x, y = CORNERS[zlib.crc32(text.encode()) % 4]
        return (ToolCall("zoom", {"bbox_2d": [x, y, x + 56, y + 28]}),)


def make_trainer(args: argparse.Namespace, folder: Path) -> VLMGRPOTrainer:
    """The trainer of a command line of `grpo_jsonl.py`, whose tools are `Looking`."""
    generator = find_task("zoom_digits").generator
    write_split(folder, "train", generator(), args.prompts, 0)
    flags = f"--model_name_or_path {args.model} --task_type zoom_digits --data_file_paths {folder / 'train.jsonl'}"
    flags += f" --image_folders {folder} --output_dir {folder / 'out'} --num_generations {args.group}"
    flags += f" --per_device_train_batch_size {args.group * args.prompts} --max_completion_length {args.tokens}"
    (folder / "slow.py").write_text(SLOW.format(seconds=args.seconds, uneven=args.uneven))
    tool, answers = f"{folder / 'slow.py'}:zoom" if args.seconds else "zoom", args.turns - 1
    flags += f" --tools {tool} --tool_workers {args.workers} --max_tool_turns {answers} --max_tool_images {answers}"
    flags += " --beta 0 --bf16 false --use_cpu true --disable_tqdm true --save_strategy no --report_to none"
    flags += " --gradient_checkpointing false"
    flags += " --use_vllm true --vllm_max_model_length 1024" if args.vllm else ""
    task, training, model_args = parse(JsonlArguments, flags.split())
    records, processor = load_records(task.data_file_paths, task.image_folders), load_processor(model_args, task)
    toolbox = Looking(**vars(toolbox_of(training, processor)))
    trainer = make_grpo_trainer(records, None, start_rewards(task), processor, task, training, model_args, toolbox)
    trainer.agreement_checked = True
    trainer.batch = trainer.new_batch(next(bench.rows_of(trainer)))
    return trainer


@contextmanager
def reading(seconds: list[float]) -> Iterator[None]:
    """Inside this context the CPU seconds of passes over prompts and answers are noted."""

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.process_time()
            result = function(*args)
            seconds.append(time.process_time() - began)
            return result

        return call

    with (
        patch.object(generation, "prefill", timed(generation.prefill)),
        patch.object(generation, "prefill_rest", timed(generation.prefill_rest)),
    ):
        yield


def rollout(trainer: VLMGRPOTrainer, way: Any) -> tuple[list[TurnRollout], dict[str, float]]:
    """A rollout, and its figures."""
    torch.manual_seed(0)
    passes: list[float] = []
    start, began, clock = bench.start_of_peak("cpu"), time.process_time(), time.perf_counter()
    sampled = vllm_turns.vllm_rollout_with_tools if trainer.use_vllm else transformers_rollout.rollout_with_tools
    with (
        patch.object(transformers_rollout, "KeptTurns", way),
        patch.object(vllm_turns, "TurnRequests", way),
        reading(passes),
    ):
        rollouts = sampled(trainer, trainer.batch.examples, trainer.batch.prompts)
    figures = {"cpu_seconds": time.process_time() - began, "seconds": time.perf_counter() - clock}
    if not trainer.use_vllm:
        figures |= {"first_reading_seconds": passes[0], "later_reading_seconds": sum(passes[1:])}
    return rollouts, figures | {"peak_bytes": bench.end_of_peak("cpu") - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="assets/tiny-vlm-zoom")
    for name, default in (("prompts", 8), ("group", 8), ("turns", 3), ("tokens", 400), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=0.0, help="of a tool that sleeps")
    parser.add_argument("--workers", type=int, default=2, help="--tool_workers")
    parser.add_argument("--uneven", action="store_true", help="sleeps of different lengths")
    parser.add_argument("--vllm", action="store_true", help="rollouts by a colocated vLLM; with --seconds")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    ways = VLLM_WAYS if args.vllm else SLOW_WAYS if args.seconds else WAYS
    with TemporaryDirectory() as folder:
        trainer, figures, ids = make_trainer(args, Path(folder)), {way: [] for way in ways}, {}
        for _ in range(1 + args.repeats):
            for way, sample in ways.items():
                rollouts, found = rollout(trainer, sample)
                figures[way].append(found)
                ids[way] = [one.trajectory.ids for one in rollouts]
    before, now = ways
    assert ids[before] == ids[now]
    turns = [sum(segment.sampled for segment in one.trajectory.segments) for one in rollouts]
    result: dict[str, Any] = {"turns": sum(turns) / len(turns), "tokens": sum(map(len, ids[now])) / len(turns)}
    for way, runs in figures.items():
        result[way] = {name: median(run[name] for run in runs[1:]) for name in runs[0]}
    result["ratio"] = {name: value / result[before][name] for name, value in result[now].items()}
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
