"""Rollouts by transformers: completions of a generation batch, under DDP, DeepSpeed or FSDP."""

from collections.abc import Sequence

from trl.extras.profiling import profiling_context
from trl.models.utils import unwrap_model_for_generation

from open_r1.models.model_parts import bare_model
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.checks.rollout_agreement import check_agreement, recorder_for
from open_r1.trainer.distributed import is_zero3
from open_r1.trainer.protocols import RolloutTrainer


def transformers_rollout(trainer: RolloutTrainer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of one completion for each prompt, up to and with its end token; rows of a group hold the same Prompt.

    All ranks call it. After a stop signal a rank's completions are cut off. Raises Disagreement, on all ranks, if the
    log-probs of the first group differ from training's.
    """
    args = trainer.args
    independent = not trainer.is_fsdp_enabled and (not is_zero3(trainer.accelerator) or args.ds3_gather_for_generation)
    with (
        profiling_context(trainer, "transformers.generate"),
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=args.ds3_gather_for_generation,
            generation_kwargs=trainer.generation_kwargs,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as model,
        trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False),
        trainer.accelerator.autocast(),
    ):
        # independent ranks hold all weights, so finished rows can leave the batch
        options = {"compact": True, "synced_gpus": False} if independent else {"compact": False}
        recorder = recorder_for(trainer, model, prompts)
        completion_ids = generate_groups(
            model,
            bare_model(model).base_model,
            prompts,
            trainer.generation_config,
            trainer.eos_token_ids,
            recorder=recorder,
            stop=trainer.signals.stop_requested,
            **options,
        )
    if recorder is not None:
        trainer.refuse_image_tokens(completion_ids)  # before a pass over them fails with another error
        check_agreement(trainer, recorder, prompts, completion_ids)
    return completion_ids
