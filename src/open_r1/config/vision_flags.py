"""Refuses flags that measure or reward looking at pictures where they could not act."""

from collections.abc import Iterable
from math import inf

from open_r1.config.idle_flags import is_stage_3
from open_r1.config.loss_types import levels_of
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.record import Record
from open_r1.errors import UsageError

NOISE_STEPS = 1000  # of the diffusion whose noise pictures may have (rollout/noisy_pictures.py)


def check_vision_probe(training: GRPOArguments) -> None:
    """Refuse a probe that could not be made, and a finding that only a probe shows. Raises ValueError."""
    every = training.vision_probe
    if every < 0:
        raise ValueError(f"--vision_probe: got {every}, expected 0 for never, or a number of steps such as 10")
    if every and training.rollout_ahead:
        raise ValueError(
            "--vision_probe, --rollout_ahead: got both, but answers of a probe would wait behind the completions that "
            "are generated ahead; leave one of the two out"
        )
    probed = [name for name in ("answers_without_looking", "time_not_used") if name in (training.stop_on or ())]
    if probed and not every:
        raise ValueError(f"--stop_on {probed[0]}: acts only with --vision_probe; add --vision_probe 10")


def check_perception(training: GRPOArguments) -> None:
    """Refuse weights and shares without a meaning, and losses that would not act as they say. Raises ValueError."""
    for name in ("perception_coef", "perception_entropy_coef", "perception_masked_entropy_coef"):
        if not 0 <= (value := getattr(training, name)) < inf:
            raise ValueError(f"--{name}: got {value:g}, expected 0 or more, such as 0.01")
    for name in ("perception_mask_share", "visual_token_share", "visual_advantage_min"):
        if (value := getattr(training, name)) is not None and not 0 < value <= 1:
            raise ValueError(f"--{name}: got {value:g}, expected a share above 0 and at most 1")
    level = training.importance_sampling_level or levels_of(training.loss_type)[0]
    if training.visual_token_share < 1 and level == "sequence":
        raise ValueError(
            f"--visual_token_share: got {training.visual_token_share:g} with --loss_type {training.loss_type} by "
            "sequence, whose ratio moves all tokens of a completion; leave it out, or take a loss by token, such as "
            "--loss_type dapo"
        )
    engine = "--fsdp" if training.fsdp else "ZeRO-3" if is_stage_3(training.deepspeed) else None
    if training.perception_masked_entropy_coef and engine:
        raise ValueError(
            f"--perception_masked_entropy_coef: got {training.perception_masked_entropy_coef:g} with {engine}, whose "
            "ranks gather weights for one pass with gradient a micro-batch; use ZeRO-2 or plain torchrun, or leave it "
            "out"
        )


def check_noisy_rollouts(training: GRPOArguments) -> None:
    """Refuse shares of a group that are none or all of it, and noise without a meaning. Raises ValueError."""
    share, group = training.noisy_rollouts, training.num_generations
    if share == 0:
        return
    if not 0 < share < 1 or round(share * group) in (0, group):
        raise ValueError(
            f"--noisy_rollouts: got {share:g} of --num_generations {group}, expected a share of at least one "
            "completion and not of all, such as 0.5, or 0 for none"
        )
    if not 1 <= training.noise_step < NOISE_STEPS:
        raise ValueError(
            f"--noise_step: got {training.noise_step}, expected a step of 1 to {NOISE_STEPS - 1}, such as 500"
        )
    if training.rollout_ahead:
        raise ValueError(
            f"--rollout_ahead: got 1 with --noisy_rollouts {share:g}, whose completions would have the noise of the "
            "step before the one that learns from them; leave one of the two out"
        )


def refuse_no_pictures(records: Iterable[Record], training: GRPOArguments) -> None:
    """Raises UsageError where a flag is about pictures and videos, and no row has one."""
    acting = {
        "noisy_rollouts": training.noisy_rollouts,
        "perception_coef": training.perception_coef,
        "visual_token_share": training.visual_token_share < 1,
        "vision_probe": training.vision_probe,
    }
    flags = [f"--{name}" for name, acts in acting.items() if acts]
    if flags and not any(record.images or record.videos for record in records):
        got = "got rows without any picture or video, expected some with one; leave it out"
        raise UsageError(f"{flags[0]}: {got}")
