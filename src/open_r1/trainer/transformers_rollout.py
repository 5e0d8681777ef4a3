"""The completions of a trainer's generation batch by transformers, under the engine that holds its weights."""

from collections.abc import Sequence

from trl.extras.profiling import profiling_context
from trl.models.utils import unwrap_model_for_generation

from open_r1.models.families import bare_model
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.checks.rollout_agreement import check_agreement, recorder_for
from open_r1.trainer.distributed import is_zero3
from open_r1.trainer.protocols import RolloutTrainer


def transformers_rollout(trainer: RolloutTrainer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of one completion for each prompt, up to and with its end token; rows of a group hold the same Prompt.

    All ranks call it. Where a rank is asked to stop, its completions are not whole. Raises Disagreement, on all, where
    the first one is not what training computes.
    """
    args = trainer.args
    alone = not (is_zero3(trainer.accelerator) and not args.ds3_gather_for_generation) and not trainer.is_fsdp_enabled
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
        # ranks that hold all weights need not step together, so rows that ended can leave the batch
        options = {"compact": True, "synced_gpus": False} if alone else {"compact": False}
        what = (
            model,
            bare_model(model).base_model,
            prompts,
            trainer.generation_config,
            trainer.eos_token_ids,
        )
        witness = recorder_for(trainer, model, prompts)
        said = generate_groups(*what, witness=witness, stop=trainer.signals.stop_requested, **options)
    if witness is not None:
        trainer.refuse_image_tokens(said)  # a pass over them would fail in other words
        check_agreement(trainer, witness, prompts, said)
    return said
