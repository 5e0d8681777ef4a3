"""A part of each group is sampled from noisy pictures, and all of it is learned with the clean ones (NoisyRollout).

Liu et al., NeurIPS 2025, arXiv:2504.13055: of a group's completions a share (`--noisy_rollouts`, theirs 0.5) is drawn
by the policy with distorted pictures (`rollout.noisy_pictures`); rewards of all are normalized in one group, and the
update takes all of them as completions of the clean pictures, old log-probs too (the authors' `ray_trainer.py`). So
rollouts alone see two prefixes a group, whose rows with noise are its last; rows of text alone have no noise. What is
said of pictures holds for the frames of videos, in either form in which a run shows them.

Tools of a completion with noise get the noisy pictures, which are what its model saw; their answers are part of the
completion, which is learned as it is, behind the clean picture.

The noise depends on (seed, step, row, number of the picture or video), so that a resumed run and any number of ranks
sample the same. A vLLM engine is sent the noisy pictures. What it reports of these completions are log-probs of other
pictures: they correct nothing, as in the paper, and say nothing of the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from open_r1.config.training_arguments import GRPOArguments
from open_r1.models.loading import pixel_limits
from open_r1.rollout.noisy_pictures import annealed, noisy_picture, noisy_video
from open_r1.rollout.processing import is_of_pixels
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.prompts import Example, Prompt, RowMedia
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.generation_batch import GenerationBatch
from open_r1.trainer.protocols import RolloutTrainer

NAN = float("nan")


@dataclass(frozen=True)
class SeenRows:
    """What the rows of a generation are sampled from, one entry a row, the same object for rows that see the same; and
    the places of rows that see noise."""

    examples: Sequence[Example]
    prompts: Sequence[Prompt]
    noisy: Sequence[int] = ()


def noisy_count(args: GRPOArguments) -> int:
    """How many completions of a group see noise."""
    return round(args.noisy_rollouts * args.num_generations)


def noisy_places(batch: GenerationBatch, args: GRPOArguments) -> list[int]:
    """The places of rows that see noise: the last of each group of training rows with pictures or videos."""
    clean = args.num_generations - noisy_count(args)
    return [
        place
        for place, row in enumerate(batch.rows)
        if row["split"] == "train" and place % args.num_generations >= clean and batch.examples[place].has_media
    ]


def seen_rows(trainer: RolloutTrainer) -> SeenRows:
    """What the rows of the generation in progress are sampled from. All ranks call it. Raises RowFailed."""
    batch, group = trainer.batch, trainer.num_generations
    if not noisy_count(trainer.args) or not batch.rows or batch.rows[0]["split"] != "train":
        return SeenRows(batch.examples, batch.prompts)
    places = noisy_places(batch, trainer.args)
    heads = sorted({place - place % group for place in places})
    made = on_all_ranks(
        lambda: trainer.loader.with_media(
            [(batch.examples[h], with_noise(trainer, batch.examples[h], batch.rows[h])) for h in heads]
        )
    )
    shown = dict(zip(heads, zip(made, trainer.prompts_on_device(made), strict=True), strict=True))
    own = [*zip(batch.examples, batch.prompts, strict=True)]
    for place in places:
        own[place] = shown[place - place % group]
    return SeenRows(*zip(*own, strict=True), places)


def with_noise(trainer: RolloutTrainer, example: Example, row: RowNumber) -> RowMedia:
    """The pictures and videos of a row as its rows with noise see them at this step."""
    media, noise, step = example.media, noise_now(trainer), trainer.state.global_step
    numbers = range(len(media.pictures) + len(media.videos))
    draws = [np.random.default_rng([trainer.args.seed, step, row["row"], number]) for number in numbers]
    pictures, videos = [], []
    for picture, rng in zip(media.pictures, draws, strict=False):
        pictures.append(noisy_picture(picture, noise, shown_pixels(trainer, example), rng))
    for video, rng in zip(media.videos, draws[len(pictures) :], strict=True):
        videos.append(noisy_video(video, noise, shown_pixels(trainer, example, of_frame=True), rng))
    return RowMedia(pictures, videos)


def noise_now(trainer: RolloutTrainer) -> int:
    """The noise step of the optimizer step in progress."""
    return annealed(trainer.args.noise_step, trainer.state.global_step + 1, trainer.state.max_steps)


def shown_pixels(trainer: RolloutTrainer, example: Example, of_frame: bool = False) -> float:
    """The largest area that the processor leaves of a picture, its limit; without one, and of a frame, what it made of
    this row's in the mean: of pictures and frames together where both are in its fields of pictures."""
    limit = 0 if of_frame else pixel_limits(trainer.processing_class)[1]
    joins, pictures, frames = example.prompt.joins, len(example.pictures), sum(len(v.pixels) for v in example.videos)
    fields = {name: value for name, value in example.prompt.images.items() if is_of_pixels(value)}
    is_apart = any(joins[name].of_videos for name in fields)
    made = sum(v.numel() for name, v in fields.items() if joins[name].of_videos == (is_apart and of_frame))
    counted = pictures + frames if not is_apart else frames if of_frame else pictures
    return limit or made / 3 / counted


def unknown_at(logps: Sequence[list[float]], places: Sequence[int]) -> list[list[float]]:
    """An engine's log-probs, NaN in these rows, which TRL's correction leaves out.

    >>> unknown_at([[-1.0, -2.0], [-3.0]], [1])
    [[-1.0, -2.0], [nan]]
    """
    return [[NAN] * len(row) if place in {*places} else row for place, row in enumerate(logps)]


def log_noise(trainer: RolloutTrainer, rewards: torch.Tensor) -> None:
    """Log the noise of the generation in progress, and what completions with and without it earned in the groups that
    have both; `rewards` (completions of all ranks, functions). All ranks call it."""
    batch, group, metrics = trainer.batch, trainer.num_generations, trainer._metrics["train"]
    if not noisy_count(trainer.args) or batch.rows[0]["split"] != "train":
        return
    first = trainer.accelerator.process_index * len(batch.rows)
    totals = rewards[first : first + len(batch.rows)].nan_to_num(0.0) @ trainer.reward_weights.to(rewards)
    noisy = torch.zeros(len(batch.rows), dtype=torch.bool, device=rewards.device)
    noisy[noisy_places(batch, trainer.args)] = True
    clean = noisy.view(-1, group).any(dim=1).repeat_interleave(group) & ~noisy
    sums = torch.stack([noisy.sum(), clean.sum(), totals[noisy].sum(), totals[clean].sum()]).float()
    seen, unseen, with_noise, without = trainer.accelerator.reduce(sums, reduction="sum").tolist()
    metrics["rollouts/noisy"].append(seen / len(rewards))
    metrics["rollouts/noise_step"].append(float(noise_now(trainer)))
    if seen:
        metrics["rollouts/noisy_reward"].append(with_noise / seen)
        metrics["rollouts/clean_reward"].append(without / unseen)


def logged_noise(trainer: RolloutTrainer) -> list[RowMedia | None]:
    """For each row of the generation in progress the pictures and videos that it saw under noise, of the groups that
    are stored."""
    batch, group = trainer.batch, trainer.num_generations
    shown: list[RowMedia | None] = [None] * len(batch.rows)
    for place in noisy_places(batch, trainer.args):
        if place < group * trainer.rollouts.groups:
            head = place - place % group
            shown[place] = shown[place - 1] or with_noise(trainer, batch.examples[head], batch.rows[head])
    return shown
