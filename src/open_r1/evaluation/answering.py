"""Generate and score completions batch by batch; loading and scoring run in the background beside generation."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import ProcessorMixin

from open_r1.data.media_views import OWN, VIEWS
from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.evaluation.loader import file_of
from open_r1.evaluation.metrics import PredictionLine, grade_completion
from open_r1.evaluation.predictions_file import PredictionsFile
from open_r1.evaluation.prefetch import load_in_processes, load_in_threads
from open_r1.evaluation.settings import EvaluationSettings, task_of_files
from open_r1.evaluation.tool_turns import Sampled, tool_fields
from open_r1.evaluation.training_rewards import training_rewards
from open_r1.rewards.judge.group import asked_together
from open_r1.rewards.registry import get_method
from open_r1.rewards.sandbox.worker_pool import WORKERS
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rewards.turns import completion_text
from open_r1.rollout.prompt_loader import PromptLoader, RowNumber
from open_r1.rollout.prompts import Example


@dataclass(frozen=True)
class AnswerBatch:
    """Rows that are answered together, in one prompt mode."""

    mode: str
    rows: tuple[int, ...]

    def row_numbers(self, view: str = OWN) -> list[RowNumber]:
        """The rows as a `PromptLoader` takes them; a view other than their own stands after the prompt mode."""
        split = self.mode if view == OWN else f"{self.mode} {view}"
        return [{"split": split, "row": row} for row in self.rows]


class AnswerEngine(Protocol):
    """What both backends are: a model with the loader of its prompts and the ids of its end tokens."""

    loader: PromptLoader
    ends: Sequence[int]

    def answer(
        self, examples: Sequence[Example], seeds: Sequence[int], samples: int | None = None
    ) -> list[list[Sampled]]:
        """Each sample of each example."""


def answer_all(
    engine: AnswerEngine,
    batches: Sequence[AnswerBatch],
    labels: Sequence[str],
    settings: EvaluationSettings,
    processor: ProcessorMixin,
    predictions: PredictionsFile,
    rewards: Sequence[BatchReward] = (),
) -> None:
    """Answer, score and write batch after batch; meanwhile the next one is loaded and the last one scored."""
    rows = [batch.row_numbers(settings.view) for batch in batches]
    needs_pictures, workers = settings.backend == "vllm" or settings.has_tools, settings.image_workers
    threads = load_in_threads(engine.loader, rows) if needs_pictures else None
    loading = threads or load_in_processes(engine.loader, rows, workers)
    scorer = Scorer(labels, settings, processor, engine.ends, rewards)
    writing: Future[list[PredictionLine]] | None = None
    loaded = engine.loader.settled()
    with loaded, progress_bar() as progress, ThreadPoolExecutor(1, thread_name_prefix="scores") as background:
        task = progress.add_task(titled(settings), total=sum(len(b.rows) for b in batches), right="")
        for batch, examples in zip(batches, loading, strict=True):
            since = time.monotonic()
            seeds = [seed_of(settings.seed, batch.mode, labels[row]) for row in batch.rows]
            samples = engine.answer(examples, seeds, settings.num_samples)
            seconds = time.monotonic() - since
            if writing is not None:
                writing.result()
            writing = background.submit(scorer.write, predictions, batch, examples, samples, seconds)
            progress.update(task, advance=len(batch.rows), right=scorer.so_far())
        if writing is not None:
            writing.result()


def titled(settings: EvaluationSettings) -> str:
    """The model's name, and what it is shown where that is not the rows' own."""
    return Path(settings.model).name + ("" if settings.view == OWN else f", shown {VIEWS[settings.view]}")


def backend_class(backend: str, records: Iterable[Record]) -> Callable[..., AnswerEngine]:
    """The engine's class, for rows; vLLM is imported only for its own backend."""
    if backend == "vllm":
        from open_r1.evaluation.vllm_engine import VLLMEngine

        return partial(VLLMEngine, most_videos=max((len(record.videos) for record in records), default=0))
    from open_r1.evaluation.transformers_engine import TransformersEngine

    return TransformersEngine


def seed_of(seed: int, mode: str, label: str) -> int:
    """The seed of a row's samples, which depends on nothing but the run's seed, the prompt mode and the row."""
    return random.Random(f"{seed}/{mode}/{label}").getrandbits(31)


class Scorer:
    """Scores completions and appends them to the predictions file; `metrics` lists the fields of a line, to which come
    the values of `rewards`."""

    def __init__(
        self,
        labels: Sequence[str],
        settings: EvaluationSettings,
        processor: ProcessorMixin,
        ends: Sequence[int],
        rewards: Sequence[BatchReward] = (),
    ):
        self.labels, self.settings, self.tokenizer, self.ends = labels, settings, processor.tokenizer, set(ends)
        self.rewards = rewards
        self.tasks = task_of_files(settings)
        # threads, as a judge or a worker pool keeps them waiting
        self.threads = ThreadPoolExecutor(2 * WORKERS, thread_name_prefix="grades")
        self.right = self.scored = 0

    def write(
        self,
        predictions: PredictionsFile,
        batch: AnswerBatch,
        examples: Sequence[Example],
        samples: list[list[Sampled]],
        seconds: float,
    ) -> None:
        """Score a batch's completions ([row][sample]) and append their lines; `seconds` of generation are divided
        among them."""
        count = sum(map(len, samples))
        items = [
            (batch.mode, self.labels[row], number, example.record, sampled, seconds / count)
            for row, example, of_row in zip(batch.rows, examples, samples, strict=True)
            for number, sampled in enumerate(of_row)
        ]
        with asked_together(self._judged(items)):
            lines = list(self.threads.map(lambda item: self._line(*item), items))
        if self.rewards:
            each = [example for example, of_row in zip(examples, samples, strict=True) for _ in of_row]
            completions, ids = [line.get("turns", line["completion"]) for line in lines], [i[4].ids for i in items]
            for line, values in zip(lines, training_rewards(self.rewards, each, completions, ids), strict=True):
                line["rewards"] = values
        predictions.add(lines)
        right = [line["right"] for line in lines if line["right"] is not None]
        self.right, self.scored = self.right + sum(right), self.scored + len(right)

    def _judged(self, items: Sequence[tuple[str, str, int, Record, Sampled, float]]) -> list[tuple[str, Record]]:
        """The texts and rows that a judge grades, which may be asked about a row's samples together."""
        rows = [(record, sampled) for _, _, _, record, sampled, _ in items if has_gold(record)]
        return [(self._text(sampled), record) for record, sampled in rows if self._is_judged(record)]

    def _is_judged(self, record: Record) -> bool:
        return get_method(record.accu_reward_method or self.tasks[file_of(record)].method).is_remote

    def _text(self, sampled: Sampled) -> str:
        """The text of a completion that is graded."""
        if sampled.messages is not None:
            return completion_text(sampled.messages)
        return self.tokenizer.decode(sampled.ids, skip_special_tokens=True)

    def _line(
        self, mode: str, label: str, sample: int, record: Record, sampled: Sampled, seconds: float
    ) -> PredictionLine:
        ids, text = sampled.ids, self._text(sampled)
        line = {
            "row": label,
            "split": label.rpartition(":")[0],
            "sample": sample,
            **grade_completion(text, record, self.tasks[file_of(record)], mode, self.settings.by),
            "tokens": len(ids),
            "truncated": not ids or ids[-1] not in self.ends,
            "seconds": round(seconds, 6),
        }
        return line | tool_fields(sampled, line)

    def so_far(self) -> str:
        """The share of right completions so far, for the progress bar."""
        return f"right so far: {self.right / self.scored:.3f}" if self.scored else ""


def progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[right]}"), console=console, disable=not console.is_terminal)
