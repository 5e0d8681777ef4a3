"""Run one evaluation: rows, the batches without predictions, completions, scores, the summary.

Batches do not depend on earlier predictions or the number of ranks; batch i belongs to rank i mod ranks. So an
evaluation that was killed and continued, also with other ranks, gives bitwise the same completions.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import ProcessorMixin

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.control_tokens import control_tokens
from open_r1.data.field_names import renaming_of
from open_r1.data.fingerprint import digest
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.data.media_views import OTHER, OWN
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.evaluation.answering import AnswerBatch, AnswerEngine, answer_all, backend_class
from open_r1.evaluation.grading_counts_file import counts_of_ranks
from open_r1.evaluation.loader import frame_of, loader_of
from open_r1.evaluation.metrics import PredictionLine, grading_facts, summarize
from open_r1.evaluation.predictions_file import Key, PredictionsFile
from open_r1.evaluation.settings import EvaluationSettings, instructions, split_names
from open_r1.evaluation.views import donors_of, refuse_no_view, rows_with_view
from open_r1.models.configuration import read_config
from open_r1.models.loading import load_processor, pixel_limits
from open_r1.models.lora import adapter_config
from open_r1.rewards.custom import user_file
from open_r1.rewards.judged import facts_of_judge, recorded_judge, try_judge_of_rows
from open_r1.rewards.places import place_check, refuse_problems
from open_r1.rewards.trl_adapter import BatchReward

PATIENCE = 3600.0  # seconds that rank 0 waits for the next row of another rank; torchrun ends all ranks if one dies


def evaluate(settings: EvaluationSettings) -> tuple[list[PredictionLine], dict[str, Any]] | None:
    """(lines of all rows, summary of those with gold); None on ranks other than 0.

    Raises UsageError for settings that cannot act, DataError for rows that cannot be used.
    """
    records = load_rows(settings)
    donors = donors_of(records, records, settings.seed) if settings.view == OTHER else []
    rows = list(rows_with_view(settings.view, records, donors))
    refuse_no_view(settings.view, rows)
    evaluation = Evaluation(settings, records, donors=donors)
    lines = evaluation.answers(evaluation.settings, rows)
    if lines is None:
        return None
    left_out = {"left_out": len(records) - len(rows)} if len(rows) < len(records) else {}
    return lines, evaluation.summary(lines) | left_out


class Evaluation:
    """Rows with the processor and the engine that answer them; the engine is loaded once, where rows are open.

    `rewards` are computed for each completion too; `donors` as `loader_of` takes them. Raises as `evaluate`.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        records: RecordDataset,
        rewards: Sequence[BatchReward] = (),
        donors: Sequence[Record | None] = (),
    ):
        self.began, (self.rank, self.ranks, self.local_rank) = time.monotonic(), torchrun_place()
        self.records, self.rewards, self.donors, self.labels = records, rewards, donors, row_labels(records)
        self.processor = load_processor(
            VLMConfig(model_name_or_path=settings.model), image_limits(settings), settings.trust_remote_code
        )
        control_tokens(self.processor, settings.chat_template_kwargs).refuse(records)
        frame = frame_of(settings, self.processor)
        self.settings = replace(settings, box_space=frame.space)
        refuse_problems(place_check(frame.missing), records)
        try_judge_of_rows(records, ["accuracy"])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What answers depend on beside the settings: data, weights, prompts, chat template."""
        return {
            "data": digest(self.records),
            "weights": checkpoint_stamp(self.settings.model, self.settings.trust_remote_code),
            "prompts": instructions(self.settings),
            "chat_template": text_stamp(str(self.processor.chat_template)),
        }

    @cached_property
    def judge(self) -> dict[str, Any]:
        """The judge that scores and rewards may ask: `judge`, its settings, and `judge_endpoint`; {} for none."""
        rewards = [reward.name for reward in self.rewards]
        code = (*self.settings.tasks, *(self.settings.tools or ()), *filter(None, [self.settings.environment]))
        return recorded_judge(facts_of_judge(self.records, ["accuracy", *rewards], code))

    @cached_property
    def engine(self) -> AnswerEngine:
        """The engine of --backend with the model."""
        loader = loader_of(self.records, self.settings, self.processor, self.donors)
        engine = backend_class(self.settings.backend, self.records)
        return engine(self.settings, self.processor, loader, self.local_rank)

    def about(self, settings: EvaluationSettings) -> dict[str, Any]:
        """All that the predictions of `settings` depend on; those with others are refused."""
        rewards = {"rewards": reward_stamps(self.rewards)} if self.is_rewarded(settings) else {}
        return {**self.facts, **settings.answer_settings(), **self.judge, **rewards}

    def is_rewarded(self, settings: EvaluationSettings) -> bool:
        """Whether completions get the rewards: those about the rows' own pictures."""
        return bool(self.rewards) and settings.view == OWN

    def predictions_of(self, settings: EvaluationSettings) -> PredictionsFile:
        """The predictions in the folder of `settings`. Raises UsageError for those of other settings."""
        about = self.about(settings)
        return PredictionsFile(settings.output_dir, about, settings.num_samples, self.rank, settings.overwrite)

    def answers(self, settings: EvaluationSettings, rows: Sequence[int] | None = None) -> list[PredictionLine] | None:
        """The lines of these rows (default: all) after those that are open were answered; None on ranks other than 0.

        `settings` are the evaluation's, or such with another folder, view and number of samples.
        """
        rows = range(len(self.records)) if rows is None else rows
        predictions = self.predictions_of(settings)
        batches, done = list(answer_batches(rows, settings)), predictions.done()
        own_batches = [batch for number, batch in enumerate(batches) if number % self.ranks == self.rank]
        open_batches = [b for b in own_batches if any((b.mode, self.labels[row]) not in done for row in b.rows)]
        if open_batches:
            rewards = self.rewards if self.is_rewarded(settings) else ()
            answer_all(self.engine, open_batches, self.labels, settings, self.processor, predictions, rewards)
        if self.rank:
            return None
        places = [(batch.mode, self.labels[row]) for batch in batches for row in batch.rows]
        order: dict[Key, int] = {key: place for place, key in enumerate(places)}
        predictions.wait(order, PATIENCE)
        return predictions.join(order)

    def summary(self, lines: Sequence[PredictionLine], settings: EvaluationSettings | None = None) -> dict[str, Any]:
        """The figures of the lines with gold, with settings and times; `settings` as `answers` got them."""
        settings = settings or self.settings
        scored = [line for line in lines if line["right"] is not None]
        facts = evaluation_facts(settings, self.about(settings), self.processor, lines, self.began)
        return summarize(scored) | facts


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


def answer_batches(rows: Sequence[int], settings: EvaluationSettings) -> Iterator[AnswerBatch]:
    """Batches of at most `batch_size` completions of the rows of these numbers, in each prompt mode, in order."""
    size = max(1, settings.batch_size // settings.num_samples)
    for mode in settings.modes:
        for start in range(0, len(rows), size):
            yield AnswerBatch(mode, tuple(rows[start : start + size]))


def checkpoint_stamp(model: str, trust_remote_code: bool = False) -> str:
    """An identity of the checkpoint under this name: a hash of its weights' sizes and times, or its hub commit."""
    if not Path(model).is_dir():
        if adapter_config(model) is not None:
            return "hub adapter"
        return str(read_config(model, trust_remote_code=trust_remote_code)._commit_hash)
    files = sorted(path for ending in ("safetensors", "bin") for path in Path(model).glob(f"*.{ending}"))
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return text_stamp(repr(facts))


def reward_stamps(rewards: Sequence[BatchReward]) -> dict[str, str | None]:
    """Reward -> an identity of the user's file that it is in; None for one of this package."""
    files = {reward.name: user_file(reward.name)[0] for reward in rewards}
    return {name: text_stamp(Path(path).read_text("utf-8")) if path else None for name, path in files.items()}


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
    """Settings, times and counts of gradings for the summary; `generation_seconds` and counts sum all ranks and
    starts, `wall_seconds` not."""
    low, high = pixel_limits(processor)
    pixels = {"min_pixels": low, "max_pixels": high} if high else {}
    return {
        "settings": {
            **about,
            **pixels,
            "data_file_paths": settings.data_file_paths,
            "limit": settings.limit,
        },
        "generation_seconds": round(sum(line["seconds"] for line in lines), 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        **grading_facts(counts_of_ranks(settings.output_dir)),
    }
