"""Run one evaluation: rows, the batches without predictions, completions, scores, the summary.

Batches do not depend on earlier predictions or the number of ranks; batch i belongs to rank i mod ranks. So an
evaluation that was killed and continued, also with other ranks, gives bitwise the same completions.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import ProcessorMixin

from open_r1.config.arguments import TaskArguments, VLMConfig
from open_r1.data.control_tokens import control_tokens
from open_r1.data.field_names import renaming_of
from open_r1.data.fingerprint import digest
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.errors import UsageError
from open_r1.evaluation.answering import AnswerBatch, answer_all
from open_r1.evaluation.metrics import PredictionLine, summarize
from open_r1.evaluation.predictions_file import Key, PredictionsFile
from open_r1.evaluation.settings import EvaluationSettings, instructions, split_names
from open_r1.models.configuration import read_config
from open_r1.models.loading import load_processor, pixel_limits
from open_r1.models.lora import adapter_config
from open_r1.rewards.places import refuse_misplaced
from open_r1.rewards.trl_adapter import lost_gradings

PATIENCE = 3600.0  # seconds that rank 0 waits for the next row of another rank; torchrun ends all ranks if one dies


def evaluate(settings: EvaluationSettings) -> tuple[list[PredictionLine], dict[str, Any]] | None:
    """(lines of all rows, summary of those with gold); None on ranks other than 0.

    Raises UsageError for settings that cannot act, DataError for rows that cannot be used.
    """
    began, (rank, ranks, local_rank) = time.monotonic(), torchrun_place()
    records = load_rows(settings)
    processor = load_processor(
        VLMConfig(model_name_or_path=settings.model), image_limits(settings), settings.trust_remote_code
    )
    control_tokens(processor).refuse(records)
    refuse_misplaced(records)
    about = {
        "data": digest(records),
        "weights": checkpoint_stamp(settings.model, settings.trust_remote_code),
        "prompts": instructions(settings),
        "chat_template": text_stamp(str(processor.chat_template)),
        **settings.answer_settings(),
    }
    predictions = PredictionsFile(settings.output_dir, about, settings.num_samples, rank, settings.overwrite)
    labels = row_labels(records)
    batches, done = list(answer_batches(records, settings)), predictions.done()
    own_batches = [batch for number, batch in enumerate(batches) if number % ranks == rank]
    open_batches = [batch for batch in own_batches if any((batch.mode, labels[row]) not in done for row in batch.rows)]
    if open_batches:
        answer_all(open_batches, records, labels, settings, processor, predictions, local_rank)
    if rank:
        return None
    order: dict[Key, int] = {
        (b.mode, labels[row]): i for i, (b, row) in enumerate((b, r) for b in batches for r in b.rows)
    }
    predictions.wait(order, PATIENCE)
    lines = predictions.join(order)
    scored = [line for line in lines if line["right"] is not None]
    return lines, summarize(scored) | evaluation_facts(settings, about, processor, lines, began)


# --------------------------------------------------------------------------------------------------------------- rows


def torchrun_place() -> tuple[int, int, int | None]:
    """(rank, ranks, local rank or None) from torchrun's environment, without a process group."""
    local = os.environ.get("LOCAL_RANK")
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), None if local is None else int(local)


def image_limits(settings: EvaluationSettings) -> TaskArguments:
    """The limits of image sizes, as `load_processor` takes them."""
    return TaskArguments(
        max_pixels=settings.max_pixels, min_pixels=settings.min_pixels, max_anyres_num=settings.max_anyres_num
    )


def load_rows(settings: EvaluationSettings) -> RecordDataset:
    """The first `limit` rows of each file. Raises DataError, or UsageError where there are none."""
    records = load_records(
        settings.data_file_paths,
        settings.image_folders,
        reward_methods=settings.methods,
        renaming=renaming_of(settings.fields),
    )
    sources = records.source_of_rows()
    if settings.limit is not None:
        keep = [np.flatnonzero(sources == number)[: settings.limit] for number in range(len(records.sources))]
        records = records.select(np.concatenate(keep))
    if not len(records):
        raise UsageError(
            f"--data_file_paths: got no rows in {':'.join(settings.data_file_paths)}, expected at least one"
        )
    return records


def row_labels(records: RecordDataset) -> list[str]:
    """`split:line` of each row."""
    names = split_names([source.path for source in records.sources])
    return [f"{names[source]}:{line}" for source, line in zip(records.source_of_rows(), records.lines(), strict=True)]


def answer_batches(records: RecordDataset, settings: EvaluationSettings) -> Iterator[AnswerBatch]:
    """Batches of at most `batch_size` completions, in each prompt mode, rows in order."""
    size = max(1, settings.batch_size // settings.num_samples)
    for mode in settings.modes:
        for start in range(0, len(records), size):
            yield AnswerBatch(mode, tuple(range(start, min(start + size, len(records)))))


def checkpoint_stamp(model: str, trust_remote_code: bool = False) -> str:
    """An identity of the checkpoint under this name: a hash of its weights' sizes and times, or its hub commit."""
    if not Path(model).is_dir():
        if adapter_config(model) is not None:
            return "hub adapter"
        return str(read_config(model, trust_remote_code=trust_remote_code)._commit_hash)
    files = sorted(path for ending in ("safetensors", "bin") for path in Path(model).glob(f"*.{ending}"))
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return text_stamp(repr(facts))


def text_stamp(text: str) -> str:
    """The first 16 digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------ summary


def evaluation_facts(
    settings: EvaluationSettings,
    about: Mapping[str, Any],
    processor: ProcessorMixin,
    lines: Sequence[PredictionLine],
    began: float,
) -> dict[str, Any]:
    """Settings and times for the summary; `generation_seconds` sums all ranks and starts, `wall_seconds` not."""
    low, high = pixel_limits(processor)
    pixels = {"min_pixels": low, "max_pixels": high} if high else {}
    lost_counts = {name: int(count) for name, count in lost_gradings().items() if count}
    return {
        "settings": {
            **about,
            **pixels,
            "data_file_paths": settings.data_file_paths,
            "limit": settings.limit,
        },
        "generation_seconds": round(sum(line["seconds"] for line in lines), 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        **({"lost_gradings": lost_counts} if lost_counts else {}),
    }
