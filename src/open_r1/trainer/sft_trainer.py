"""Supervised fine-tuning on `Record`s by TRL's SFTTrainer: rows, processor, model, trainer, final checkpoint."""

from typing import Any

from datasets import Dataset
from trl import SFTTrainer

from open_r1.config.arguments import JsonlArguments, SFTArguments, VLMConfig
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.prompt_length import refuse_long_prompts
from open_r1.errors import UsageError
from open_r1.models.context_length import limits_of, load_config
from open_r1.models.families import bare_model, family_of, vision_parts
from open_r1.models.loading import freeze_vision, load_model, load_processor
from open_r1.models.lora import lora_config
from open_r1.rollout.annotation import annotator
from open_r1.tasks.registry import TASKS
from open_r1.trainer.checkpointing.resumable import Resumable
from open_r1.trainer.checkpointing.select import Resume, plan_resume
from open_r1.trainer.checks.nonfinite import Finite
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.forward.dummy_image import share_vision
from open_r1.trainer.forward.shared_prefix import share_prefixes, why_no_shared_prefix
from open_r1.trainer.lifecycle.hooks import LifecycleHooks
from open_r1.trainer.lifecycle.run_lock import only_run
from open_r1.trainer.outputs.callbacks import Curves
from open_r1.trainer.outputs.hub import Published
from open_r1.trainer.run import train_and_save
from open_r1.trainer.sft_batches import Collator, PackingCollator, taught


class VLMSFTTrainer(Finite, LifecycleHooks, Resumable, Published, SFTTrainer):
    """TRL's trainer, resumed exactly; `plan` says from where."""

    plan: Resume

    def rows_of(self, inputs: dict[str, Any]) -> Any:
        return inputs.pop("rows")

    def where(self, row: Any) -> str:
        return self.records[int(row)].where


def run_sft(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> VLMSFTTrainer:
    """Train on all rows of the data; everything a run leaves is under `training.output_dir`."""
    with only_run(training):
        trainer = make_sft_trainer(data, training, model_args)
        train_and_save(trainer, data, training, model_args, trainer.plan)
    return trainer


def make_sft_trainer(data: JsonlArguments, training: SFTArguments, model_args: VLMConfig) -> VLMSFTTrainer:
    """Rows, processor, model and TRL's trainer."""
    task = TASKS[data.task_type]
    instruction = task.prompts[data.prompt_mode]
    methods = data.reward_method or task.method
    records = load_records(data.data_file_paths, data.image_folders, reward_methods=methods)
    resume = plan_resume(records, data, training, model_args)
    processor = load_processor(model_args, data, training.trust_remote_code)
    annotate = annotator(load_config(model_args, training.trust_remote_code).model_type, processor, data.prompt_mode)
    limits = limits_of(data, training, model_args)
    refuse_long_prompts(records, processor, instruction, limits, lambda record: taught(annotate(record)))
    model = load_model(model_args, training)
    if data.freeze_vision_modules:
        freeze_vision(model)
    collator = Collator(records, processor, instruction, annotate, data.image_workers)
    packed, training.padding_free = training.padding_free, False  # TRL's own takes no rows with images
    trainer = VLMSFTTrainer(
        model=model,
        args=training,
        processing_class=processor,
        train_dataset=Dataset.from_dict({"row": range(len(records))}),
        data_collator=collator,
        callbacks=[Curves(training.output_dir)],
        peft_config=lora_config(model_args, model, vision_parts(model)),
    )
    trainer.records = records
    trainer.add_callback(WeightUpdates(trainer))
    share_vision(trainer)
    if packed:
        training.padding_free = True
        pack_batches(trainer, collator)
    trainer.plan = resume
    return trainer


def pack_batches(trainer: SFTTrainer, collator: Collator) -> None:
    """`--padding_free true`: batches as one sequence. Raises UsageError for models where that would not be exact."""
    model: Any = bare_model(trainer.model)
    if reason := why_no_shared_prefix(model) or (
        "--router_aux_loss_coef counts padding" if trainer.aux_loss_enabled else None
    ):
        raise UsageError(f"--padding_free: got true, cannot act: {reason}; remove one of them")
    rope = getattr(model.base_model, "get_rope_index", None)
    trainer.data_collator = PackingCollator(collator, rope, family_of(model).images_see_themselves)
    share_prefixes(model)
