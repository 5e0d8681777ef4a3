"""Rollouts by transformers: completions of a generation batch, under DDP, DeepSpeed or FSDP."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from transformers import PreTrainedModel
from trl.extras.profiling import profiling_context
from trl.models.utils import unwrap_model_for_generation

from open_r1.models.model_parts import bare_model
from open_r1.rollout.generation import RowEnded, generate_groups, remaining_config
from open_r1.rollout.kept_rows import Continuation
from open_r1.rollout.kept_turns import KeptTurns
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.trajectory import one_turn
from open_r1.rollout.turns import TurnRollout, by_itself, prefilled
from open_r1.trainer.checks.rollout_agreement import LogProbRecorder, check_agreement, recorder_for
from open_r1.trainer.distributed import is_zero3
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.tool_turns import ranks_in_step, turn_sampler


def transformers_rollout(trainer: RolloutTrainer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of one completion for each prompt, up to and with its end token; rows of a group hold the same Prompt.

    All ranks call it. After a stop signal a rank's completions are cut off. Raises Disagreement, on all ranks, if the
    log-probs of the first group differ from training's.
    """
    with generating(trainer) as model:
        recorder = recorder_for(trainer, model, prompts)
        completion_ids = sample_turn(trainer, model, recorder, prompts, range(len(prompts)))
    if recorder is not None:
        trainer.refuse_image_tokens(completion_ids)  # before a pass over them fails with another error
        check_agreement(trainer, recorder, prompts, [one_turn(ids) for ids in completion_ids])
    return completion_ids


def rollout_with_tools(
    trainer: RolloutTrainer, examples: Sequence[Example], prompts: Sequence[Prompt]
) -> list[TurnRollout]:
    """As `transformers_rollout`, of completions in which the run's tools answer calls."""
    with generating(trainer) as model:
        recorder = recorder_for(trainer, model, prompts)
        turn = partial(sample_turn, trainer, model, recorder)
        # ranks that step together call the same parts of a model, its vision tower too
        alone = samples_alone(trainer)
        sample, in_step = (KeptTurns(turn), by_itself) if alone else (prefilled(turn), ranks_in_step)
        rollouts = turn_sampler(trainer, sample, in_step).rollouts(examples, prompts)
    if recorder is not None:
        trajectories, turns = [one.trajectory for one in rollouts], [one.tensors for one in rollouts]
        trainer.refuse_image_tokens([one.sampled_ids for one in trajectories])
        check_agreement(trainer, recorder, prompts, trajectories, turns)
    return rollouts


def samples_alone(trainer: RolloutTrainer) -> bool:
    """Whether this rank holds all weights while it generates, so that it needs no other."""
    whole = not is_zero3(trainer.accelerator) or trainer.args.ds3_gather_for_generation
    return whole and not trainer.is_fsdp_enabled


@contextmanager
def generating(trainer: RolloutTrainer) -> Iterator[PreTrainedModel]:
    """Inside this context a rank's model can generate: the engine's wrapper is off, weights are whole."""
    with (
        profiling_context(trainer, "transformers.generate"),
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            generation_kwargs=trainer.generation_kwargs,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        ) as model,
        trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False),
        trainer.accelerator.autocast(),
    ):
        yield model


def sample_turn(
    trainer: RolloutTrainer,
    model: PreTrainedModel,
    recorder: LogProbRecorder | None,
    prompts: Sequence[Prompt],
    rows: Sequence[int],
    most: int | None = None,
    tell: RowEnded | None = None,
    going_on: Sequence[Continuation] = (),
) -> list[list[int]]:
    """Token ids of the next turn of each prompt, at most `most`, by default the whole budget; `rows` are the prompts'
    places in the batch, none for a turn that is dropped. The others are `generate_groups`'."""
    config = trainer.generation_config
    # where a rank samples alone, finished rows can leave the batch
    options = {"compact": True, "synced_gpus": False} if samples_alone(trainer) else {"compact": False}
    prompts, recorder = (prompts, recorder) if rows else (trainer.batch.prompts[:1], None)
    if recorder is not None:
        recorder.begin_turn(rows)
    return generate_groups(
        model,
        bare_model(model).base_model,
        prompts,
        config if most is None else remaining_config(config, config.max_new_tokens - most),
        trainer.eos_token_ids,
        recorder=recorder,
        stop=trainer.signals.stop_requested,
        tell=tell,
        going_on=going_on,
        **options,
    )
