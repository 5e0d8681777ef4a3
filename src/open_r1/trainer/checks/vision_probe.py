"""Measures whether the policy looks: log-probs and answers with own pictures, with blank ones, with another row's.

Every `--vision_probe` steps, on the first groups of a generation that have pictures or videos:

- `vision/dependency`: the mean over tokens of log p(token | own pictures) - log p(token | blank pictures), in nats, of
  the completions that were sampled. Near 0 the completions would have been said without the pictures. Pictures that
  tools put into a completion are blank too, their texts stay, and their tokens count nowhere;
- `vision/accuracy`, `vision/blind_accuracy`, `vision/swapped_accuracy`: the mean accuracy reward of one greedy answer
  a row with its own pictures, with blank ones, and with those of another row in the row's own sizes. Runs without
  `accuracy` among their rewards have none. Tools get the pictures that the row is shown;
- `vision/shuffled_accuracy`, of rows with videos: the same with the frames of each video in another order, beside
  `vision/ordered_accuracy`, that of these rows with the frames in order.

What is said of pictures holds for videos too. Blank pictures have the processor's mean colour and the same sizes, so
that prompts keep their tokens. Two passes without gradient and one greedy rollout; all ranks make as many, groups of
text alone included, which no metric counts. No random number is drawn, so that a run with the probe learns what one
without it does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

import torch
from transformers import GenerationConfig
from trl.models.utils import disable_gradient_checkpointing

from open_r1.data.media_views import BLANK, OTHER, SHUFFLED, has_view
from open_r1.models.generation_defaults import flags_alone
from open_r1.rewards.turns import Message
from open_r1.rollout.device_copies import to_device
from open_r1.rollout.other_media import OtherMedia
from open_r1.rollout.other_pictures import donor_of, mean_color
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.token_texts import token_texts
from open_r1.rollout.trajectory import ToolTurns, counted_places
from open_r1.trainer.checkpointing.run_state import own_random_state
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.forward.patch_masks import mask_patches, pixels_of_color
from open_r1.trainer.generation_batch import GenerationBatch
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.tool_turns import messages_of_rollouts
from open_r1.trainer.vllm_turns import vllm_rollout_with_tools

PROBED_GROUPS = 6  # of a rank, at most
ANSWERS = ("accuracy", "blind_accuracy", "swapped_accuracy", "shuffled_accuracy")

Shading = list[tuple[str, float]]  # the texts of a completion's tokens, and the dependency of each in nats


class Views(NamedTuple):
    """A row with its own pictures and videos, with blank ones, with another row's, with frames in another order; None:
    it has none of them, there is no other row, it has no video."""

    own: Example
    blank: Example | None
    swapped: Example | None
    shuffled: Example | None


def probe_is_due(trainer: RolloutTrainer) -> bool:
    """Whether the generation in progress is the first one at or after a multiple of `--vision_probe` steps."""
    args = trainer.args
    if not (args.vision_probe and trainer.model.training):
        return False
    steps = args.steps_per_generation * trainer.num_iterations // args.gradient_accumulation_steps
    first = trainer._step % args.gradient_accumulation_steps < args.steps_per_generation
    return first and trainer.state.global_step % args.vision_probe < max(1, steps)


def probe_vision(trainer: RolloutTrainer, completions: torch.Tensor, mask: torch.Tensor) -> list[Shading | None]:
    """Log the metrics of the generation in progress; the shading of each completion, None where it was not probed.

    `completions` (N, C) and `mask` (N, C) of its N rows. All ranks call it.
    """
    size, examples = trainer.num_generations, trainer.batch.examples
    heads = probed_heads(examples, size)
    views = on_all_ranks(lambda: views_of(trainer, [examples[head] for head in heads]))
    with own_random_state(), trainer.watch.phase("rollout"):
        places = [h + k for h in heads for k in range(size)]
        turns = [trainer.batch.turns[place] for place in places] if trainer.batch.turns else ()
        dependency = dependency_of(trainer, views, completions[places], mask[places], turns)
        counted = counted_places(mask[places].sum(dim=1).tolist(), turns, mask.shape[1])
        log_dependency(trainer, views, dependency, to_device(counted.long(), mask.device))
        log_accuracies(trainer, views)
    shadings: list[Shading | None] = [None] * len(examples)
    for i, place in enumerate(places):
        if views[i // size].blank is not None and place < size * trainer.rollouts.groups:  # others are not stored
            ids = completions[place][: int(mask[place].sum())].tolist()
            values = [round(value, 3) for value in dependency[i, : len(ids)].tolist()]
            shadings[place] = list(zip(token_texts(trainer.processing_class, ids, special=False), values, strict=True))
    return shadings


def probed_heads(examples: Sequence[Example], size: int) -> list[int]:
    """The first row of each group that is probed: those with pictures or videos first, as many on each rank."""
    heads = sorted(range(0, len(examples), size), key=lambda head: not examples[head].has_media)
    return sorted(heads[:PROBED_GROUPS])


def views_of(trainer: RolloutTrainer, examples: Sequence[Example]) -> list[Views]:
    """The views of rows. Raises DataError for another row's picture or video that cannot be read."""
    records, seed = trainer.records["train"], trainer.args.seed
    loader = trainer.loader
    media = OtherMedia(mean_color(trainer.processing_class), loader.frames, seed, loader.frame_cache)
    donors = [donor_of(example.record, records, seed) for example in examples]

    def view(kind: str) -> list[Example | None]:
        rows = {n: donor for n, donor in enumerate(donors) if has_view(kind, examples[n].record, donor)}
        shown = [(e, media.shown(kind, e.record, e.media, rows[n])) for n, e in enumerate(examples) if n in rows]
        made = dict(zip(rows, loader.with_media(shown), strict=True))
        return [made.get(number) for number in range(len(examples))]

    return list(map(Views, examples, *map(view, (BLANK, OTHER, SHUFFLED))))


# -------------------------------------------------------------------------------------------------------- log-probs


def dependency_of(
    trainer: RolloutTrainer,
    views: Sequence[Views],
    completions: torch.Tensor,
    mask: torch.Tensor,
    turns: Sequence[ToolTurns | None] = (),
) -> torch.Tensor:
    """(N, C) the dependency of each token, in nats; `completions` and `mask` (N, C) hold as many rows of each view,
    with the `turns` of tools in them."""
    size, lengths = len(completions) // len(views), mask.sum(dim=1).tolist()
    of_blank = [view.blank is not None for view in views for _ in range(size)]
    blank = blank_turns(trainer, [turn if shown else None for turn, shown in zip(turns, of_blank, strict=bool(turns))])
    unseen = [blank_turn or turn for blank_turn, turn in zip(blank, turns, strict=True)]

    def logps(examples: list[Example], turns: Sequence[ToolTurns | None]) -> torch.Tensor:
        prompts: list[Prompt | None] = [p for p in trainer.prompts_on_device(examples) for _ in range(size)]
        rows = trainer.args.per_device_train_batch_size
        return trainer.score_in_parts(trainer.model, prompts, completions, lengths, rows, turns).logps

    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        return logps([view.own for view in views], turns) - logps([view.blank or view.own for view in views], unseen)


def blank_turns(trainer: RolloutTrainer, turns: Sequence[ToolTurns | None]) -> list[ToolTurns | None]:
    """Turns of tools whose pictures have the processor's mean colour."""
    if not any(turns):
        return [*turns]
    blank = pixels_of_color(trainer.processing_class, trainer.fields, mean_color(trainer.processing_class))
    return [turn and mask_patches(turn, blank, 1.0, [0]) for turn in turns]


def log_dependency(
    trainer: RolloutTrainer, views: Sequence[Views], dependency: torch.Tensor, mask: torch.Tensor
) -> None:
    """Log the mean over the tokens of all ranks."""
    size = len(mask) // len(views)
    seen = torch.tensor([view.blank is not None for view in views for _ in range(size)], device=mask.device)
    counted = mask * seen[:, None]
    log_mean(trainer, "vision/dependency", float((dependency * counted).sum()), int(counted.sum()))


def log_mean(trainer: RolloutTrainer, name: str, total: float, count: int) -> None:
    """Log the mean of what all ranks counted; nothing where that is nothing."""
    here = torch.tensor([[total, float(count)]], device=trainer.accelerator.device)
    total, count = trainer.accelerator.gather(here).sum(dim=0).tolist()
    if count:
        trainer._metrics["train"][name].append(total / count)


# ---------------------------------------------------------------------------------------------------------- answers


def log_accuracies(trainer: RolloutTrainer, views: Sequence[Views]) -> None:
    """Log the mean accuracy reward of greedy answers, a metric for each of ANSWERS; of those to shuffled frames where
    there are videos, beside those of the same rows to frames in order."""
    names = [reward.__name__ for reward in trainer.reward_funcs]
    if "accuracy" not in names:
        return
    reward = trainer.reward_funcs[names.index("accuracy")]
    kinds = ANSWERS if any_rank(trainer, any(view.shuffled for view in views)) else ANSWERS[:-1]
    shown = [view[kind] for kind in range(len(kinds)) for view in views]
    examples = [example or view.own for example, view in zip(shown, [*views] * len(kinds), strict=True)]
    counted = [example is not None and example.has_media for example in shown]
    ids, completions = greedy_completions(trainer, examples)
    scores = reward(
        prompts=[example.conversation for example in examples],
        completions=completions,
        completion_ids=ids,
        record=[example.record for example in examples],
        images=[example.pictures for example in examples],
    )
    for kind, name in enumerate(kinds):
        place = slice(kind * len(views), (kind + 1) * len(views))
        graded = zip(scores[place], counted[place], strict=True)
        values = [score for score, counts in graded if counts and score is not None]
        log_mean(trainer, f"vision/{name}", sum(values), len(values))
    if kinds == ANSWERS:
        values = [score for score, view in zip(scores, views, strict=False) if view.shuffled and score is not None]
        log_mean(trainer, "vision/ordered_accuracy", sum(values), len(values))


def any_rank(trainer: RolloutTrainer, here: bool) -> bool:
    """Whether something holds on any rank. All ranks call it."""
    return bool(trainer.accelerator.gather(torch.tensor([here], device=trainer.accelerator.device)).any())


def greedy_completions(
    trainer: RolloutTrainer, examples: list[Example]
) -> tuple[list[list[int]], list[list[Message]]]:
    """Token ids and messages of one greedy completion a row, by the run's engine. Raises RunStopped, on all ranks."""
    if trainer.engine is not None and trainer.toolbox is None:
        ids = trainer.engine.greedy(examples)
        return ids, one_message_each(trainer, ids)
    if trainer.engine is not None:
        rollouts = vllm_rollout_with_tools(trainer, examples, trainer.prompts_on_device(examples), greedy=True)
        return [one.trajectory.ids for one in rollouts], messages_of_rollouts(rollouts)
    with flags_alone(trainer.accelerator.unwrap_model(trainer.model)), generating_greedily(trainer, examples):
        ids, _ = trainer._completions(trainer._tokenize_prompts([])[0], None, {}, 1)
        rollouts = trainer.batch.rollouts
    trainer.signals.check(trainer.accelerator)
    return ids, messages_of_rollouts(rollouts) if rollouts else one_message_each(trainer, ids)


def one_message_each(trainer: RolloutTrainer, ids: list[list[int]]) -> list[list[Message]]:
    """Completions without tools as rewards take them."""
    texts = trainer.processing_class.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [[{"role": "assistant", "content": text}] for text in texts]


@contextmanager
def generating_greedily(trainer: RolloutTrainer, examples: list[Example]) -> Iterator[None]:
    """Inside this context the trainer's generation is of these rows, and greedy."""
    batch, config = trainer.batch, trainer.generation_config
    trainer.batch = GenerationBatch([], examples, trainer.prompts_on_device(examples), skip_old_pass=False)
    trainer.generation_config = greedy_config(config)
    try:
        yield
    finally:
        trainer.batch, trainer.generation_config = batch, config


def greedy_config(config: GenerationConfig) -> GenerationConfig:
    """The configuration without sampling."""
    config = copy(config)
    config.do_sample = False
    config.temperature = config.top_p = config.top_k = config.min_p = None
    return config
