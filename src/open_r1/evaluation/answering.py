"""Batches of rows to an engine, its completions to the journal; loading and scoring go on beside generation."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import AutoConfig, ProcessorMixin

from open_r1.config.remote_code import code_named
from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import Record, RecordDataset
from open_r1.evaluation.metrics import graded
from open_r1.evaluation.predictions_file import PredictionLine, PredictionsFile
from open_r1.evaluation.prefetch import in_processes, load_in_threads
from open_r1.evaluation.settings import EvaluationSettings, task_of_files
from open_r1.models.lora import adapter_config
from open_r1.rewards.sandbox.worker_pool import WORKERS
from open_r1.rollout.annotation import annotator
from open_r1.rollout.prompts import Example, PromptLoader


@dataclass(frozen=True)
class AnswerBatch:
    """Rows that are answered together in one prompt mode."""

    mode: str
    rows: tuple[int, ...]


def answer_all(
    todo: Sequence[AnswerBatch],
    records: RecordDataset,
    labels: Sequence[str],
    settings: EvaluationSettings,
    processor: ProcessorMixin,
    journal: PredictionsFile,
    local_rank: int | None,
) -> None:
    """Answer, score and write batch after batch: the next one is loaded and the last one scored in the background."""
    engine = backend(settings.backend)(settings, processor, loader_of(records, settings, processor), local_rank)
    wanted = [[{"split": batch.mode, "row": row} for row in batch.rows] for batch in todo]
    by_vllm, workers = settings.backend == "vllm", settings.image_workers
    loaded = load_in_threads(engine.loader, wanted) if by_vllm else in_processes(engine.loader, wanted, workers)
    scorer = Scorer(labels, settings, processor, engine.ends)
    written: Future[list[PredictionLine]] | None = None
    with progress_bar() as progress, ThreadPoolExecutor(1, thread_name_prefix="scores") as behind:
        task = progress.add_task(Path(settings.model).name, total=sum(len(b.rows) for b in todo), right="")
        for batch, examples in zip(todo, loaded, strict=True):
            since = time.monotonic()
            seeds = [seed_of(settings.seed, batch.mode, labels[row]) for row in batch.rows]
            ids = engine.answer(examples, seeds)
            seconds = time.monotonic() - since
            if written is not None:
                written.result()
            written = behind.submit(scorer.write, journal, batch, examples, ids, seconds)
            progress.update(task, advance=len(batch.rows), right=scorer.so_far())
        if written is not None:
            written.result()


def backend(name: str) -> Any:
    """vLLM is imported only where it answers."""
    if name == "vllm":
        from open_r1.evaluation.vllm_engine import VLLM

        return VLLM
    from open_r1.evaluation.transformers_engine import Transformers

    return Transformers


def loader_of(records: RecordDataset, settings: EvaluationSettings, processor: ProcessorMixin) -> Any:
    """What makes an engine's loader, given the model's `get_rope_index` or None."""
    annotate, tasks = annotators(settings, processor), task_of_files(settings)

    def record_of(row: dict[str, Any]) -> Record:
        return annotate[row["split"]](records[row["row"]])

    def conversation(record: Record, pictures: Sequence[Any]) -> list[dict[str, Any]]:
        prompts = tasks[file_of(record)].prompts
        return with_images(messages(record, prompts[record.extra["prompt_mode"]]), pictures)

    return lambda rope: PromptLoader(record_of, conversation, processor, rope, settings.image_workers, {})


def annotators(settings: EvaluationSettings, processor: ProcessorMixin) -> dict[str, Callable[[Record], Record]]:
    """Prompt mode -> what gives a record what parsers and rewards need."""
    kind = model_type(settings)
    return {mode: annotator(kind, processor, mode) for mode in settings.modes}


def model_type(settings: EvaluationSettings) -> str:
    """`config.model_type`, of the base model for an adapter."""
    adapter = adapter_config(settings.model)
    name = adapter["base_model_name_or_path"] if adapter else settings.model
    with code_named(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=settings.trust_remote_code).model_type


def file_of(record: Record) -> str:
    return record.where.rpartition(":")[0]


def seed_of(seed: int, mode: str, label: str) -> int:
    """Of a row's samples: no other row's, whatever is answered before."""
    return random.Random(f"{seed}/{mode}/{label}").getrandbits(31)


class Scorer:
    """Completions' token ids -> lines in the journal; the fields of a line are those of `predictions`."""

    def __init__(
        self, labels: Sequence[str], settings: EvaluationSettings, processor: ProcessorMixin, ends: Sequence[int]
    ):
        self.labels, self.settings, self.tokenizer, self.ends = labels, settings, processor.tokenizer, set(ends)
        self.tasks = task_of_files(settings)
        # a judge or a pool may be waited for
        self.threads = ThreadPoolExecutor(2 * WORKERS, thread_name_prefix="grades")
        self.right = self.seen = 0

    def write(
        self,
        journal: PredictionsFile,
        batch: AnswerBatch,
        examples: Sequence[Example],
        ids: list[list[list[int]]],
        seconds: float,
    ) -> None:
        count = sum(map(len, ids))
        items = [
            (batch.mode, self.labels[row], sample, example.record, tokens, seconds / count)
            for row, example, samples in zip(batch.rows, examples, ids, strict=True)
            for sample, tokens in enumerate(samples)
        ]
        lines = list(self.threads.map(lambda item: self._line(*item), items))
        journal.add(lines)
        right = [line["right"] for line in lines if line["right"] is not None]
        self.right, self.seen = self.right + sum(right), self.seen + len(right)

    def _line(
        self, mode: str, label: str, sample: int, record: Record, ids: list[int], seconds: float
    ) -> PredictionLine:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return {
            "row": label,
            "split": label.rpartition(":")[0],
            "sample": sample,
            **graded(text, record, self.tasks[file_of(record)], mode, self.settings.by),
            "tokens": len(ids),
            "truncated": not ids or ids[-1] not in self.ends,
            "seconds": round(seconds, 6),
        }

    def so_far(self) -> str:
        return f"right so far: {self.right / self.seen:.3f}" if self.seen else ""


def progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[right]}"), console=console, disable=not console.is_terminal)
