"""Runs supervised fine-tuning by TRL's SFTTrainer: rows, processor, model, trainer, final checkpoint."""

from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import SFTTrainer

from open_r1.config.batches import refuse_dropped_rows
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import SFTArguments
from open_r1.config.video_flags import frame_cache, frame_sampling, refuse_no_videos, warn_of_clips_alone
from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.data.prompt_length import refuse_unusable_prompts
from open_r1.errors import UsageError
from open_r1.models.context_length import row_limits
from open_r1.models.loading import freeze_vision, load_model, load_processor
from open_r1.models.lora import lora_config
from open_r1.models.model_parts import bare_model, vision_parts
from open_r1.models.quantization import trained_weights, unround_adapters
from open_r1.rewards.places import place_check
from open_r1.rollout.annotation import annotator
from open_r1.rollout.processor_fields import PromptFields, prompt_fields
from open_r1.rollout.video_form import VideoRows
from open_r1.tasks.find import find_task
from open_r1.trainer.checkpointing.resumable import Resumable
from open_r1.trainer.checkpointing.select import plan_resume
from open_r1.trainer.checks.nonfinite import NonfiniteGuard
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.forward.dummy_image import run_vision_on_all_ranks
from open_r1.trainer.forward.head_input import complete_fused_heads
from open_r1.trainer.forward.image_sight import image_sight
from open_r1.trainer.forward.shared_prefix import share_prefixes, why_no_shared_prefix
from open_r1.trainer.lifecycle.hooks import LifecycleHooks
from open_r1.trainer.lifecycle.run_lock import only_run
from open_r1.trainer.outputs.callbacks import Curves
from open_r1.trainer.outputs.hub import HubUploads
from open_r1.trainer.run import frame_of_run, train_and_save
from open_r1.trainer.sft_batches import Collator, target_completion
from open_r1.trainer.sft_packing import PackingCollator
from open_r1.trainer.tool_turns import less_listing, listed_tools


class VLMSFTTrainer(NonfiniteGuard, LifecycleHooks, Resumable, HubUploads, SFTTrainer):
    """TRL's SFTTrainer on `Record`s: batches come from `collator`, and the loss is on the assistant's turns alone.

    The mixins have the order of `VLMGRPOTrainer`. Raises UsageError for `--padding_free true` with a model for
    which one sequence a batch would not be exact.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        collator: Collator,
        args: SFTArguments,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
    ):
        self.records, padding_free, args.padding_free = collator.records, args.padding_free, False
        given = trained_weights(model)
        super().__init__(  # TRL's own padding_free takes no rows with images
            model=model,
            args=args,
            processing_class=collator.processor,
            train_dataset=Dataset.from_dict({"row": range(len(collator.records))}),
            data_collator=collator,
            callbacks=callbacks,
            peft_config=peft_config,
        )
        unround_adapters(self.model, given)
        self.add_callback(WeightUpdates(self))
        complete_fused_heads(self)
        fields = prompt_fields(collator.processor, bare_model(self.model), video_form=collator.video_form)
        collator = self.data_collator = replace(collator, fields=replace(fields, rope=None))
        run_vision_on_all_ranks(self, fields)
        args.padding_free = padding_free
        if padding_free:
            self.data_collator = self._packing(collator, fields)

    def _packing(self, collator: Collator, fields: PromptFields) -> PackingCollator:
        """A collator of batches as one sequence each; makes the model's attention accept them."""
        model: PreTrainedModel = bare_model(self.model)
        counted = "--router_aux_loss_coef counts padding" if self.aux_loss_enabled else None
        if reason := why_no_shared_prefix(model) or counted:
            raise UsageError(f"--padding_free: got true, cannot act: {reason}; remove one of them")
        share_prefixes(model)
        return PackingCollator(collator, fields, image_sight(model))

    def rows_of(self, inputs: dict[str, Any]) -> torch.Tensor:
        return inputs.pop("rows")

    def place_of(self, row: torch.Tensor) -> str:
        return self.records[int(row)].where


def run_sft(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> VLMSFTTrainer:
    """Train on all rows of the data; all files of a run are under `training.output_dir`."""
    method = data.reward_method or find_task(data.task_type).method
    with only_run(training):
        renaming = renaming_of(data.fields)
        records = load_records(data.data_file_paths, data.image_folders, reward_methods=method, renaming=renaming)
        refuse_dropped_rows(len(records), training)
        refuse_no_videos(records, data)
        if training.process_index == 0:
            warn_of_clips_alone(records, data)
        processor = load_processor(model_args, data, training.trust_remote_code)
        resume = plan_resume(records, data, training, model_args, processor)
        trainer = make_sft_trainer(records, processor, data, training, model_args)
        train_and_save(trainer, data, training, model_args, resume)
    return trainer


def make_sft_trainer(
    records: RecordDataset,
    processor: ProcessorMixin,
    data: JsonlArguments,
    training: SFTArguments,
    model_args: VLMConfig,
) -> VLMSFTTrainer:
    """Load the model and make the trainer. Raises DataError, before it loads, for rows that it cannot take."""
    instruction = find_task(data.task_type, data.prompt_template).prompts[data.prompt_mode]
    frame = frame_of_run(processor, data, training, model_args)
    annotate = annotator(frame, data.prompt_mode)
    toolbox = listed_tools(training, processor)
    limits = less_listing(row_limits(data, training, model_args), toolbox, processor)
    answer = lambda record: target_completion(annotate(record))  # noqa: E731
    videos = VideoRows.of_run(data.video_form, processor, frame.family)
    options = {"frames": frame_sampling(data), "video_form": videos.form or "native"}
    check = videos.beside(place_check(frame.missing))
    refuse_unusable_prompts(records, processor, instruction, limits, answer, check=check, **options)
    data.video_form = videos.shown or data.video_form  # which checkpoints record
    model = load_model(model_args, training)
    if data.freeze_vision_modules:
        freeze_vision(model)
    return VLMSFTTrainer(
        model=model,
        collator=Collator(
            records,
            processor,
            instruction,
            annotate,
            data.image_workers,
            toolbox=toolbox,
            frames=frame_sampling(data),
            video_form=videos.shown,
            frame_cache=frame_cache(data),
        ),
        args=training,
        callbacks=[Curves(training.output_dir)],
        peft_config=lora_config(model_args, model, vision_parts(model)),
    )
