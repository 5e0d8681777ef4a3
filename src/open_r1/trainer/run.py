"""Runs GRPO, top to bottom: task, rewards, model, trainer, table, training, final checkpoint.

The task scripts differ only in where their records come from.
"""

import json
import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import transformers
import yaml
from transformers import ProcessorMixin, ProgressCallback, Trainer, TrainingArguments

from open_r1.config.batches import refuse_too_few_rows
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.tool_flags import refuse_no_pictures_of_tools
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import rewards_of
from open_r1.config.video_flags import frame_sampling, refuse_no_videos, warn_of_clips_alone
from open_r1.config.vision_flags import refuse_no_pictures
from open_r1.data.prompt_length import no_problems, refuse_unusable_prompts
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.models.context_length import load_config, row_limits
from open_r1.models.loading import freeze_vision, load_model, load_processor
from open_r1.models.lora import lora_config
from open_r1.models.model_parts import vision_parts
from open_r1.models.saving import refuse_unsavable
from open_r1.redaction import redacted_values
from open_r1.rewards.judge.settings import judge_among
from open_r1.rewards.judged import try_judge_of_rows
from open_r1.rewards.places import place_check
from open_r1.rewards.registry import BY_METHOD
from open_r1.rewards.trl_adapter import BatchReward, Bounds
from open_r1.rollout.annotation import BoxFrame, annotator, box_frame
from open_r1.rollout.video_form import VideoRows
from open_r1.tasks.find import find_task
from open_r1.tools.toolbox import Toolbox
from open_r1.trainer.checkpointing.select import Resume, plan_resume
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.lifecycle.archive_logs import archive_earlier_logs
from open_r1.trainer.lifecycle.run_lock import only_run, refuse_other_folder
from open_r1.trainer.lifecycle.shutdown import train
from open_r1.trainer.outputs.callbacks import Curves, Progress
from open_r1.trainer.outputs.endings import say_beginning, say_end
from open_r1.trainer.outputs.hub import card_of, recipe_of
from open_r1.trainer.preflight import show_preflight
from open_r1.trainer.tool_turns import less_listing, refuse_unknown_space, toolbox_of
from open_r1.trainer.vllm_rollout import refuse_unknown_to_vllm

logger = logging.getLogger(__name__)


def run_grpo(
    records: Sequence[Record],
    eval_records: Sequence[Record] | None,
    task: TaskArguments,
    training: GRPOArguments,
    model_args: VLMConfig,
) -> VLMGRPOTrainer:
    """Train on `records`; all files of a run are under `training.output_dir`. Raises UsageError for too few."""
    training.reward_weights = reward_weights_of(task, training)
    refuse_too_few_rows(len(records), training)
    refuse_no_pictures(records, training)
    refuse_no_pictures_of_tools(records, training)
    refuse_no_videos(records, task)
    if training.process_index == 0 and not (training.tools or training.environment):  # which may give pictures
        warn_of_clips_alone(chain(records, eval_records or ()), task)
    with only_run(training):
        try_judge_of_rows(records, rewards_of(task))
        processor = load_processor(model_args, task, training.trust_remote_code)
        resume = plan_resume(records, task, training, model_args, processor)
        rewards, toolbox = start_rewards(task), toolbox_of(training, processor)
        trainer = make_grpo_trainer(records, eval_records, rewards, processor, task, training, model_args, toolbox)
        with trainer.loader.settled():
            show_preflight(trainer)
            train_and_save(trainer, task, training, model_args, resume)
    return trainer


def frame_of_run(
    processor: ProcessorMixin, task: TaskArguments, training: TrainingArguments, model_args: VLMConfig
) -> BoxFrame:
    """The frame of the model's boxes; `task.box_space` becomes its space, which checkpoints record."""
    config = load_config(model_args, training.trust_remote_code)
    frame = box_frame(config.model_type, processor, task.box_space)
    task.box_space = frame.space
    return frame


def start_rewards(task: TaskArguments) -> list[BatchReward]:
    """The run's rewards, with their workers started before CUDA starts and a model is loaded."""
    bounds = Bounds(task.reward_seconds, task.reward_memory_gb, task.rewards_in_process, task.reward_errors)
    rewards = [BatchReward(name, bounds) for name in rewards_of(task)]
    for reward in rewards:
        reward.start()
    return rewards


def reward_weights_of(task: TaskArguments, training: GRPOArguments) -> list[float] | None:
    """The weights of a run's rewards: those of --reward_weights, else of the task's own rewards; None: 1 for each.

    Raises UsageError for another number of them than of rewards.
    """
    weights, rewards = training.reward_weights, rewards_of(task)
    if weights is None:
        return None if task.reward_funcs else list(find_task(task.task_type).weights)
    if len(weights) != len(rewards):
        raise UsageError(
            f"--reward_weights: got {len(weights)}, but the run has {len(rewards)} rewards ({', '.join(rewards)}); "
            "give one for each, in their order, or leave it out"
        )
    return weights


def make_grpo_trainer(
    records: Sequence[Record],
    eval_records: Sequence[Record] | None,
    rewards: Sequence[BatchReward],
    processor: ProcessorMixin,
    task: TaskArguments,
    training: GRPOArguments,
    model_args: VLMConfig,
    toolbox: Toolbox | None = None,
    kind: type[VLMGRPOTrainer] = VLMGRPOTrainer,
) -> VLMGRPOTrainer:
    """Load the model and make a trainer, a `kind`. Raises DataError, before it loads, for rows that it cannot take."""
    instruction = find_task(task.task_type, task.prompt_template).prompts[task.prompt_mode]
    frame = frame_of_run(processor, task, training, model_args)
    refuse_unknown_space(toolbox, frame)
    check = place_check(frame.missing) if BY_METHOD & {reward.name for reward in rewards} else no_problems
    videos = VideoRows.of_run(task.video_form, processor, frame.family, training.chat_template_kwargs)
    limits = less_listing(row_limits(task, training, model_args), toolbox, processor)
    for rows in (records, eval_records or ()):
        template = training.chat_template_kwargs
        options = {"template": template, "frames": frame_sampling(task), "video_form": videos.form or "native"}
        refuse_unusable_prompts(rows, processor, instruction, limits, check=videos.beside(check), **options)
    task.video_form = videos.shown or task.video_form  # which checkpoints record
    refuse_unknown_to_vllm(training, model_args, videos.shown, videos.most)
    model = load_model(model_args, training)
    if task.freeze_vision_modules:
        freeze_vision(model)
    trainer = kind(
        model=model,
        processor=processor,
        rewards=rewards,
        records=records,
        eval_records=eval_records,
        instruction=instruction,
        annotate=annotator(frame, task.prompt_mode),
        args=training,
        task=task,
        callbacks=[Curves(training.output_dir)],
        peft_config=lora_config(model_args, model, vision_parts(model)),
        toolbox=toolbox,
        video_form=videos.shown,
    )
    if not training.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(Progress)
    return trainer


def train_and_save(
    trainer: Trainer, task: TaskArguments, training: TrainingArguments, model_args: VLMConfig, resume: Resume
) -> None:
    """Save the configuration, train (from a checkpoint if there is one), and save the final model.

    A new run, and one that continues a checkpoint of another folder, moves an earlier run's logs away: only here, so
    that a run that fails to start leaves them alone.
    """
    refuse_other_folder(training)
    if resume.checkpoint is None or resume.checkpoint.resolve().parent != Path(training.output_dir).resolve():
        archive_earlier_logs(training)
    trainer.facts, trainer.changes, trainer.new_prompts = resume.facts, resume.changes, resume.new_prompts
    save_configuration(trainer, task, training, model_args)
    trainer.recipe_and_card = recipe_of(task, training, model_args), card_of(trainer, task, training, model_args)
    on_all_ranks(lambda: refuse_unsavable_run(trainer))
    say_beginning(trainer, resume)
    train(trainer, resume)
    say_end(trainer, task, training, model_args)


def refuse_unsavable_run(trainer: Trainer) -> None:
    """Raises UsageError, on rank 0, for a file beside the weights that could not be saved."""
    if trainer.accelerator.is_main_process:
        refuse_unsavable(trainer.accelerator.unwrap_model(trainer.model), trainer.side_files())


def save_configuration(
    trainer: Trainer, task: TaskArguments, training: TrainingArguments, model_args: VLMConfig
) -> None:
    """Write `resolved_config.yaml` to the output folder: every flag with its value, secrets blanked, and versions."""
    if not trainer.accelerator.is_main_process:
        return
    sections = {"task": vars(task), "training": training.to_dict(), "model": vars(model_args)}
    versions = {"transformers": transformers.__version__}
    sections |= {"judge": judge} if (judge := judge_among(trainer.facts)) else {}
    sections |= {"files": {"changed on the way": list(trainer.changes)}} if trainer.changes else {}
    path = Path(training.output_dir) / "resolved_config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = redacted_values(json.loads(json.dumps(sections | {"versions": versions}, default=str)))
    path.write_text(yaml.safe_dump(plain, sort_keys=True), encoding="utf-8")
    logger.info("configuration saved to %s", path)
