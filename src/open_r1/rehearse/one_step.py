"""Rehearses one step of a run: the model from its configuration alone, the first rows, the run's own trainer."""

import gc
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin
from transformers.trainer_utils import SaveStrategy

from open_r1.config.batches import refuse_too_few_rows
from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.errors import DataError
from open_r1.models.loading import freeze_vision, load_processor
from open_r1.models.lora import lora_config
from open_r1.models.model_parts import bare_model, vision_parts
from open_r1.plan.dims import dims_of
from open_r1.plan.settings import PlannedRun
from open_r1.rehearse.empty_models import reference_without_weights, rehearsed_configuration, without_weights
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.flags import Rehearsed
from open_r1.rehearse.on_device import on_fake_device
from open_r1.rehearse.rehearsed_trainer import PARTS, RehearsedTrainer
from open_r1.rehearse.step import Step
from open_r1.rehearse.values import TOKEN
from open_r1.rollout.annotation import annotator
from open_r1.rollout.video_form import VideoRows
from open_r1.tasks.find import find_task
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.preflight import count_parameters, planned_run_of
from open_r1.trainer.run import frame_of_run


def rehearse_step(asked: Rehearsed) -> Step:
    """Run the first step on the fake device. Raises UsageError for what cannot be rehearsed, and what the step
    raises."""
    task, training = asked.task, asked.training
    config = rehearsed_configuration(asked)
    records = load_records(
        task.data_file_paths,
        task.image_folders,
        reward_methods=task.reward_method or find_task(task.task_type).method,
        renaming=renaming_of(task.fields),
    )
    refuse_too_few_rows(len(records), training)
    steps = steps_of(asked, len(records))
    named = asked.own.processor or asked.model.model_name_or_path
    processor = load_processor(replace(asked.model, model_name_or_path=named), task)
    training.max_steps, training.shuffle_dataset, training.save_strategy = 1, False, SaveStrategy.NO
    with TemporaryDirectory() as folder, on_fake_device(training) as books:
        training.output_dir = folder
        before = books.ledger.alive
        policy = without_weights(config, asked)
        if task.freeze_vision_modules:
            freeze_vision(policy)
        bytes_ = {"weights": books.ledger.alive - before}
        with reference_without_weights(config, asked):
            trainer = trainer_of(asked, policy, processor, records)
        gc.collect()
        bytes_["reference"] = books.ledger.alive - sum(bytes_.values()) if trainer.ref_model is not None else 0
        TOKEN.id = plain_token(trainer)
        completion = asked.own.completion_length or trainer.max_completion_length
        trainer.prepare_rehearsal(books, completion, not asked.vllm, TOKEN.id)
        trainer.train()
        return rehearsed_of(asked, trainer, books, bytes_, steps)


def trainer_of(
    asked: Rehearsed, policy: PreTrainedModel, processor: ProcessorMixin, records: RecordDataset
) -> RehearsedTrainer:
    """The run's trainer around a policy on the fake device."""
    task = asked.task
    frame = frame_of_run(processor, task, asked.training, asked.model)
    videos = VideoRows.of_run(task.video_form, processor, frame.family)
    if problems := [problem for record in records for problem in videos.problems(record)]:
        raise DataError(problems)
    trainer = RehearsedTrainer(
        model=policy,
        processor=processor,
        rewards=[in_turn],
        records=records,
        eval_records=None,
        instruction=find_task(task.task_type, task.prompt_template).prompts[task.prompt_mode],
        annotate=annotator(frame, task.prompt_mode),
        args=asked.training,
        task=task,
        peft_config=lora_config(asked.model, policy, vision_parts(policy)),
        video_form=videos.shown,
    )
    trainer.remove_callback(WeightUpdates)
    trainer.remove_callback(PrinterCallback)
    return trainer


def rehearsed_of(
    asked: Rehearsed, trainer: RehearsedTrainer, books: FakeDevice, bytes_: dict[str, int], steps: int
) -> Step:
    """What a trainer left that has trained."""
    total, trained = count_parameters(trainer.model)
    gradients = sum(p.numel() * p.element_size() for p in trainer.model.parameters() if p.requires_grad)
    return Step(
        books=books,
        run=planned_of(asked, trainer),
        dims=dims_of(bare_model(trainer.model)),
        bytes_=bytes_ | {"optimizer": trainer.optimizer_bytes, "gradients": gradients},
        repeats=trainer.repeats,
        done=min(trainer.done, PARTS),
        parameters=total,
        trained=trained,
        steps_of_run=steps,
        optimizations=trainer.optimizations.lines(),
    )


def planned_of(asked: Rehearsed, trainer: RehearsedTrainer) -> PlannedRun:
    """The planner's settings of the rehearsed step."""
    prompts, size = trainer.seen_prompts, bare_model(trainer.model).dtype.itemsize
    longest = max(len(prompt.ids) for prompt in prompts)
    return replace(
        planned_run_of(trainer, longest, asked.engine, size, device_bytes=0.0),
        patches_per_prompt=max(patches_of(prompt.images) for prompt in prompts),
        completion_tokens=trainer.completion,
        gpus=asked.own.nproc,
        lora_r=asked.model.lora_r if asked.model.use_peft else 0,
        four_bit=asked.model.load_in_4bit,
        nested_scales=asked.model.use_bnb_nested_quant,
        freeze_vision=asked.task.freeze_vision_modules,
    )


def in_turn(completions: list[Any], **_: Any) -> list[float]:
    """A reward that is 0, 1, 0, 1, ..., so that every completion has an advantage."""
    return [float(number % 2) for number in range(len(completions))]


def plain_token(trainer: RehearsedTrainer) -> int:
    """A token that ends nothing and stands for no image."""
    special = {*trainer.banned_ids, *trainer.eos_token_ids, *trainer.processing_class.tokenizer.all_special_ids}
    return next(number for number in range(len(trainer.processing_class.tokenizer)) if number not in special)


def patches_of(images: dict[str, torch.Tensor]) -> int:
    """Patches of a prompt's pictures and videos, where the processor gives them one by one; else their pixels' first
    size."""
    return sum(len(images[name]) for name in ("pixel_values", "pixel_values_videos") if name in images)


def steps_of(asked: Rehearsed, rows: int) -> int:
    """Optimizer steps of the whole run on `--nproc` GPUs."""
    args = asked.training
    if args.max_steps > 0:
        return args.max_steps
    completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * asked.own.nproc
    return max(1, int(rows * args.num_generations * args.num_train_epochs * args.num_iterations // completions))
