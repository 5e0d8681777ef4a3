"""Rows become the prompts of an evaluation: annotated, asked in the task's words, loaded for an engine."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from open_r1.config.video_flags import frame_cache, frame_sampling
from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.evaluation.settings import EvaluationSettings, task_of_files
from open_r1.evaluation.tool_turns import evaluated_toolbox
from open_r1.evaluation.views import viewer
from open_r1.models.configuration import read_config
from open_r1.models.lora import adapter_config
from open_r1.rewards.registry import METHODS
from open_r1.rollout.annotation import BoxFrame, annotator, box_frame
from open_r1.rollout.other_media import OtherMedia
from open_r1.rollout.other_pictures import mean_color
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompt_loader import PromptLoader
from open_r1.rollout.turns import opening_of, with_tool_list, with_tool_options
from open_r1.rollout.video_form import NO_FORM_REMEDY, resolved_form


def loader_of(
    records: RecordDataset,
    settings: EvaluationSettings,
    processor: ProcessorMixin,
    donors: Sequence[Record | None] = (),
    form: str | None = None,
) -> Any:
    """A function that makes the engine's PromptLoader of the bare model, or of None; `donors`: the row whose pictures
    stand in for those of each row, where it is shown so; `form`: of videos, where not all rows are known yet."""
    annotate, tasks = annotators(settings, processor), task_of_files(settings)
    toolbox = evaluated_toolbox(settings, processor)
    form = form or form_of_videos(records, settings, processor)

    def record_of(row: dict[str, Any]) -> Record:
        return annotate[row["split"].partition(" ")[0]](records[row["row"]])

    def conversation(record: Record, pictures: Sequence[Any]) -> list[dict[str, Any]]:
        prompts = tasks[file_of(record)].prompts
        chat = messages(record, prompts[record.extra["prompt_mode"]])
        return with_images(with_tool_list(chat, toolbox), pictures)

    def loader(model: PreTrainedModel | None) -> PromptLoader:
        template, workers = with_tool_options(settings.chat_template_kwargs, toolbox), settings.image_workers
        fields, opening = prompt_fields(processor, model, template, form), opening_of(toolbox)
        frames, kept = frame_sampling(settings), frame_cache(settings)
        view = viewer(donors, OtherMedia(mean_color(processor), frames, settings.seed, kept))
        return PromptLoader(record_of, conversation, processor, fields, workers, template, view, opening, frames, kept)

    return loader


def form_of_videos(records: RecordDataset, settings: EvaluationSettings, processor: ProcessorMixin) -> str | None:
    """The form in which the rows' videos are shown, None without any. Raises UsageError where there is no form."""
    if not any(record.videos for record in records):
        return None
    form, reason = resolved_form(settings.video_form, processor, model_type(settings), settings.chat_template_kwargs)
    if form is None:
        raise UsageError(
            f"--video_form: got {settings.video_form} and rows with videos, but {reason}; {NO_FORM_REMEDY}"
        )
    return form


def annotators(settings: EvaluationSettings, processor: ProcessorMixin) -> dict[str, Callable[[Record], Record]]:
    """Prompt mode -> the function that adds to a record what parsers and rewards need."""
    frame = frame_of(settings, processor)
    return {mode: annotator(frame, mode) for mode in settings.modes}


def frame_of(settings: EvaluationSettings, processor: ProcessorMixin) -> BoxFrame:
    """The frame of the model's boxes. Raises UsageError as `box_frame`, and where a method of the files or a tool
    needs a space that is not known."""
    frame = box_frame(model_type(settings), processor, settings.box_space)
    toolbox = evaluated_toolbox(settings, processor)
    reads_boxes = any(METHODS[name].places for name in settings.methods) or (toolbox and toolbox.needs_frame)
    if frame.missing and reads_boxes:
        raise UsageError(frame.missing)
    return frame


def model_type(settings: EvaluationSettings) -> str:
    """`config.model_type`, of the base model for an adapter."""
    adapter = adapter_config(settings.model)
    name = adapter["base_model_name_or_path"] if adapter else settings.model
    return read_config(name, trust_remote_code=settings.trust_remote_code).model_type


def file_of(record: Record) -> str:
    """The data file of a record."""
    return record.where.rpartition(":")[0]
