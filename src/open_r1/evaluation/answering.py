"""Generate and score completions batch by batch; loading and scoring run in the background beside generation."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import ProcessorMixin

from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.record import Record
from open_r1.evaluation.metrics import PredictionLine, grade_completion
from open_r1.evaluation.predictions_file import PredictionsFile
from open_r1.evaluation.prefetch import load_in_processes, load_in_threads
from open_r1.evaluation.settings import EvaluationSettings, task_of_files
from open_r1.models.configuration import read_config
from open_r1.models.lora import adapter_config
from open_r1.rewards.sandbox.worker_pool import WORKERS
from open_r1.rollout.annotation import annotator
from open_r1.rollout.prompts import Example, PromptLoader


@dataclass(frozen=True)
class AnswerBatch:
    """Rows that are answered together, in one prompt mode."""

    mode: str
    rows: tuple[int, ...]


def answer_all(
    batches: Sequence[AnswerBatch],
    records: RecordDataset,
    labels: Sequence[str],
    settings: EvaluationSettings,
    processor: ProcessorMixin,
    predictions: PredictionsFile,
    local_rank: int | None,
) -> None:
    """Answer, score and write batch after batch; meanwhile the next one is loaded and the last one scored."""
    engine = backend_class(settings.backend)(settings, processor, loader_of(records, settings, processor), local_rank)
    rows = [[{"split": batch.mode, "row": row} for row in batch.rows] for batch in batches]
    by_vllm, workers = settings.backend == "vllm", settings.image_workers
    loading = load_in_threads(engine.loader, rows) if by_vllm else load_in_processes(engine.loader, rows, workers)
    scorer = Scorer(labels, settings, processor, engine.ends)
    writing: Future[list[PredictionLine]] | None = None
    with progress_bar() as progress, ThreadPoolExecutor(1, thread_name_prefix="scores") as background:
        task = progress.add_task(Path(settings.model).name, total=sum(len(b.rows) for b in batches), right="")
        for batch, examples in zip(batches, loading, strict=True):
            since = time.monotonic()
            seeds = [seed_of(settings.seed, batch.mode, labels[row]) for row in batch.rows]
            ids = engine.answer(examples, seeds)
            seconds = time.monotonic() - since
            if writing is not None:
                writing.result()
            writing = background.submit(scorer.write, predictions, batch, examples, ids, seconds)
            progress.update(task, advance=len(batch.rows), right=scorer.so_far())
        if writing is not None:
            writing.result()


def backend_class(backend: str) -> Any:
    """The engine's class; vLLM is imported only for its own backend."""
    if backend == "vllm":
        from open_r1.evaluation.vllm_engine import VLLMEngine

        return VLLMEngine
    from open_r1.evaluation.transformers_engine import TransformersEngine

    return TransformersEngine


def loader_of(records: RecordDataset, settings: EvaluationSettings, processor: ProcessorMixin) -> Any:
    """A function that makes the engine's PromptLoader of the model's `get_rope_index`, or of None."""
    annotate, tasks = annotators(settings, processor), task_of_files(settings)

    def record_of(row: dict[str, Any]) -> Record:
        return annotate[row["split"]](records[row["row"]])

    def conversation(record: Record, pictures: Sequence[Any]) -> list[dict[str, Any]]:
        prompts = tasks[file_of(record)].prompts
        return with_images(messages(record, prompts[record.extra["prompt_mode"]]), pictures)

    return lambda rope: PromptLoader(record_of, conversation, processor, rope, settings.image_workers, {})


def annotators(settings: EvaluationSettings, processor: ProcessorMixin) -> dict[str, Callable[[Record], Record]]:
    """Prompt mode -> the function that adds to a record what parsers and rewards need."""
    kind = model_type(settings)
    return {mode: annotator(kind, processor, mode) for mode in settings.modes}


def model_type(settings: EvaluationSettings) -> str:
    """`config.model_type`, of the base model for an adapter."""
    adapter = adapter_config(settings.model)
    name = adapter["base_model_name_or_path"] if adapter else settings.model
    return read_config(name, trust_remote_code=settings.trust_remote_code).model_type


def file_of(record: Record) -> str:
    """The data file of a record."""
    return record.where.rpartition(":")[0]


def seed_of(seed: int, mode: str, label: str) -> int:
    """The seed of a row's samples, which depends on nothing but the run's seed, the prompt mode and the row."""
    return random.Random(f"{seed}/{mode}/{label}").getrandbits(31)


class Scorer:
    """Scores completions and appends them to the predictions file; `metrics` lists the fields of a line."""

    def __init__(
        self, labels: Sequence[str], settings: EvaluationSettings, processor: ProcessorMixin, ends: Sequence[int]
    ):
        self.labels, self.settings, self.tokenizer, self.ends = labels, settings, processor.tokenizer, set(ends)
        self.tasks = task_of_files(settings)
        # threads, as a judge or a worker pool keeps them waiting
        self.threads = ThreadPoolExecutor(2 * WORKERS, thread_name_prefix="grades")
        self.right = self.scored = 0

    def write(
        self,
        predictions: PredictionsFile,
        batch: AnswerBatch,
        examples: Sequence[Example],
        ids: list[list[list[int]]],
        seconds: float,
    ) -> None:
        """Score the token ids of a batch's completions ([row][sample]) and append their lines; `seconds` of generation
        are divided among them."""
        count = sum(map(len, ids))
        items = [
            (batch.mode, self.labels[row], sample, example.record, tokens, seconds / count)
            for row, example, samples in zip(batch.rows, examples, ids, strict=True)
            for sample, tokens in enumerate(samples)
        ]
        lines = list(self.threads.map(lambda item: self._line(*item), items))
        predictions.add(lines)
        right = [line["right"] for line in lines if line["right"] is not None]
        self.right, self.scored = self.right + sum(right), self.scored + len(right)

    def _line(
        self, mode: str, label: str, sample: int, record: Record, ids: list[int], seconds: float
    ) -> PredictionLine:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return {
            "row": label,
            "split": label.rpartition(":")[0],
            "sample": sample,
            **grade_completion(text, record, self.tasks[file_of(record)], mode, self.settings.by),
            "tokens": len(ids),
            "truncated": not ids or ids[-1] not in self.ends,
            "seconds": round(seconds, 6),
        }

    def so_far(self) -> str:
        """The share of right completions so far, for the progress bar."""
        return f"right so far: {self.right / self.scored:.3f}" if self.scored else ""


def progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[right]}"), console=console, disable=not console.is_terminal)
