"""One evaluation, top to bottom: rows, batches that are not answered yet, completions, scores, the summary.

Batches are the same whatever was answered before and however many ranks there are: batch i belongs to rank i mod
ranks. So a run that was killed and goes on, or goes on with other ranks, gives the same completions, bit by bit.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, ProcessorMixin

from open_r1.config.arguments import TaskArguments, VLMConfig
from open_r1.data.fingerprint import digest
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.errors import UsageError
from open_r1.evaluation.answering import AnswerBatch, answer_all
from open_r1.evaluation.metrics import summarize
from open_r1.evaluation.predictions_file import Key, PredictionLine, PredictionsFile
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.models.loading import load_processor, pixel_limits
from open_r1.models.lora import adapter_config
from open_r1.rewards.trl_adapter import lost_gradings

PATIENCE = 3600.0  # seconds that rank 0 waits for the next row of another rank; torchrun ends it if one dies


def evaluate(settings: EvaluationSettings) -> tuple[list[PredictionLine], dict[str, Any]] | None:
    """(lines of all rows, summary of those with gold); None on ranks other than 0.

    Raises UsageError for what cannot act, DataError for rows that cannot be used.
    """
    began, (rank, ranks, local_rank) = time.monotonic(), torchrun_place()
    records = chosen_rows(settings)
    processor = load_processor(
        VLMConfig(model_name_or_path=settings.model), limits(settings), settings.trust_remote_code
    )
    about = {
        "data": digest(records),
        "weights": stamp(settings.model, settings.trust_remote_code),
        **settings.shaping(),
    }
    journal = PredictionsFile(settings.output_dir, about, settings.num_samples, rank, settings.overwrite)
    labels = row_labels(records)
    batches, done = list(batched(records, settings)), journal.done()
    mine = [batch for number, batch in enumerate(batches) if number % ranks == rank]
    todo = [batch for batch in mine if any((batch.mode, labels[row]) not in done for row in batch.rows)]
    if todo:
        answer_all(todo, records, labels, settings, processor, journal, local_rank)
    if rank:
        return None
    order: dict[Key, int] = {
        (b.mode, labels[row]): i for i, (b, row) in enumerate((b, r) for b in batches for r in b.rows)
    }
    journal.wait(order, PATIENCE)
    lines = journal.join(order)
    scored = [line for line in lines if line["right"] is not None]
    return lines, summarize(scored) | about_run(settings, processor, lines, began)


# --------------------------------------------------------------------------------------------------------------- rows


def torchrun_place() -> tuple[int, int, int | None]:
    """(rank, ranks, local rank or None) as torchrun says; no process group is needed."""
    local = os.environ.get("LOCAL_RANK")
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), None if local is None else int(local)


def limits(settings: EvaluationSettings) -> TaskArguments:
    return TaskArguments(
        max_pixels=settings.max_pixels, min_pixels=settings.min_pixels, max_anyres_num=settings.max_anyres_num
    )


def chosen_rows(settings: EvaluationSettings) -> RecordDataset:
    """The rows of all files, the first `limit` of each. Raises DataError, or UsageError where there is none."""
    records = load_records(settings.data_file_paths, settings.image_folders, reward_methods=settings.methods)
    sources = records.source_of_rows()
    if settings.limit is not None:
        keep = [np.flatnonzero(sources == number)[: settings.limit] for number in range(len(records.sources))]
        records = records.select(np.concatenate(keep))
    if not len(records):
        raise UsageError(
            f"--data_file_paths: got no rows in {':'.join(settings.data_file_paths)}, expected at least one"
        )
    return records


def split_names(paths: Sequence[str]) -> list[str]:
    """The name of each file's split: its stem, or the whole path where two stems are alike.

    >>> split_names(["data/val.jsonl", "data/testA.jsonl"]), split_names(["a/val.jsonl", "b/val.jsonl"])
    (['val', 'testA'], ['a/val.jsonl', 'b/val.jsonl'])
    """
    stems = [Path(path).stem for path in paths]
    return [stem if stems.count(stem) == 1 else path for stem, path in zip(stems, paths, strict=True)]


def row_labels(records: RecordDataset) -> list[str]:
    """`split:line` of each row, the same wherever the files lie."""
    names = split_names([source.path for source in records.sources])
    return [f"{names[source]}:{line}" for source, line in zip(records.source_of_rows(), records.lines(), strict=True)]


def batched(records: RecordDataset, settings: EvaluationSettings) -> Iterator[AnswerBatch]:
    """Batches of at most `batch_size` completions, in each prompt mode, rows in order."""
    size = max(1, settings.batch_size // settings.num_samples)
    for mode in settings.modes:
        for start in range(0, len(records), size):
            yield AnswerBatch(mode, tuple(range(start, min(start + size, len(records)))))


def stamp(model: str, trust_remote_code: bool = False) -> str:
    """What tells one checkpoint from another under the same name: sizes and times of its weights, or its commit."""
    if not Path(model).is_dir():
        if adapter_config(model) is not None:
            return "hub adapter"
        return str(AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)._commit_hash)
    files = sorted(path for ending in ("safetensors", "bin") for path in Path(model).glob(f"*.{ending}"))
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------ summary


def about_run(
    settings: EvaluationSettings, processor: ProcessorMixin, lines: Sequence[PredictionLine], began: float
) -> dict[str, Any]:
    """How the figures came about; `generation_seconds` are of all ranks and starts, `wall_seconds` of this start."""
    low, high = pixel_limits(processor)
    known = {"min_pixels": low, "max_pixels": high} if high else {}
    lost = {name: int(count) for name, count in lost_gradings().items() if count}
    return {
        "settings": {
            **settings.shaping(),
            **known,
            "data_file_paths": settings.data_file_paths,
            "limit": settings.limit,
        },
        "generation_seconds": round(sum(line["seconds"] for line in lines), 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        **({"lost_gradings": lost} if lost else {}),
    }
