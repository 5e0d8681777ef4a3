"""Groups without spread are replaced by groups of other rows (`--resample_zero_variance`), before anything is learned.

DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) samples whole batches until enough groups have spread; here as
many groups as lack it are sampled anew, up to N times, and the step keeps its size. What is left without spread after
that stays. All ranks hold all groups of a generation (texts and token ids, no pictures), so that each round is shared
out evenly, whichever ranks the groups without spread lie on: every rank makes the same calls of engine and rewards.
What tools put into completions stays on the rank that sampled them, until the groups of the step are known; then that
of groups that another rank learns from is sent there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, isnan
from typing import Any

import torch
from accelerate.utils import gather_object

from open_r1.rewards.spread import RewardSum, has_spread
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.turns import TurnRollout
from open_r1.trainer.generation_batch import GenerationBatch, SampledBatch
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.row_choice import slice_of_rank

LoadedRow = list[Example | Prompt]  # its example, and its prompt on the device


@dataclass(frozen=True)
class SampledGroup:
    """The G completions of one row: token ids, the engine's log-probs (None without vLLM), `rewards` (G, functions),
    columns that rewards log, tokens with those of the prompt."""

    row: RowNumber
    ids: list[list[int]]
    logps: list[list[float]] | None
    rewards: torch.Tensor
    columns: dict[str, list[Any]]
    tokens: int


def resampled(trainer: RolloutTrainer, batch: GenerationBatch) -> GenerationBatch:
    """The batch with its completions and rewards, groups without spread replaced where other rows gave some."""
    ranks, choice = trainer.accelerator.num_processes, trainer.row_choice
    slots = sample_groups(trainer, batch)  # of all ranks, in the order of ranks
    sampled, loaded, held = list(slots), loaded_rows(batch), held_rollouts(trainer, batch)
    for attempt in range(1, trainer.args.resample_zero_variance + 1):
        lacking = [slot for slot, group in enumerate(slots) if not spreads(trainer, group)]
        tried = {group.row["row"] for group in sampled}
        count = min(ceil(len(lacking) / ranks), (choice.rows - len(tried)) // ranks) * ranks
        if not count:
            break
        rows = choice.draw(count, trainer._step, attempt, tried)
        round_batch = trainer.new_batch(choice.of_this_rank(rows), beside=True)
        fresh = sample_groups(trainer, round_batch)
        live = [group for group in fresh if spreads(trainer, group)]
        for slot, group in zip(lacking, live, strict=False):
            slots[slot] = group
        sampled += fresh
        kept = {group.row["row"] for group in slots}  # pixels of the others leave the device
        loaded = {row: pair for row, pair in (loaded | loaded_rows(round_batch)).items() if row in kept}
        held = {row: own for row, own in (held | held_rollouts(trainer, round_batch)).items() if row in kept}
    log_resampling(trainer, slots, sampled)
    joined = joined_batch(trainer, slots, loaded, batch.skip_old_pass)
    if trainer.toolbox is not None:
        held = held | arriving_rollouts(trainer, slots, held)
        joined.take_rollouts([one for row in joined.rows[:: trainer.num_generations] for one in held[row["row"]]])
    return joined


def loaded_rows(batch: GenerationBatch) -> dict[int, LoadedRow]:
    """Number of each row of a batch -> what was loaded of it."""
    return {row["row"]: pair for row, *pair in zip(batch.rows, batch.examples, batch.prompts, strict=True)}


def held_rollouts(trainer: RolloutTrainer, batch: GenerationBatch) -> dict[int, Sequence[TurnRollout]]:
    """Number of each row of a batch -> its G completions with tool turns; empty without tools."""
    size = trainer.num_generations
    starts = range(0, len(batch.rollouts), size)
    return {batch.rows[start]["row"]: batch.rollouts[start : start + size] for start in starts}


def arriving_rollouts(
    trainer: RolloutTrainer, slots: Sequence[SampledGroup], held: dict[int, Sequence[TurnRollout]]
) -> dict[int, Sequence[TurnRollout]]:
    """The completions of this rank's slots that other ranks `held`, with their tool turns. All ranks call it."""
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    own = {group.row["row"] for group in slice_of_rank(slots, rank, ranks)}
    wanted = {group.row["row"] for group in slots} - own
    sent = gather_object([{row: [replace(one, tensors=None) for one in held[row]] for row in wanted & held.keys()}])
    return {
        row: [replace(one, tensors=trainer.turns_again(one.trajectory)) for one in rollouts]
        for part in sent
        for row, rollouts in part.items()
        if row in own
    }


def spreads(trainer: RolloutTrainer, group: SampledGroup) -> bool:
    """Whether a group teaches."""
    reward_sum = RewardSum(trainer.reward_weights.tolist(), trainer.args.multi_objective_aggregation)
    rewards = [[None if isnan(value) else value for value in row] for row in group.rewards.tolist()]
    return has_spread(map(reward_sum.value, rewards))


def sample_groups(trainer: RolloutTrainer, batch: GenerationBatch) -> list[SampledGroup]:
    """Sample and reward the completions of the batches of all ranks: the groups, in the order of ranks."""
    trainer.batch = batch
    columns = [example.columns() for example in batch.examples]
    with metrics_unchanged(trainer):
        prompt_ids, ids, _, completions, logps, *_ = trainer._generate([column["prompt"] for column in columns])
    rewards = trainer.rewards_of(columns, completions, ids)
    extra = {name: list(values) for name, values in trainer._pending_extra_logs.items()}
    trainer._pending_extra_logs.clear()
    size, first = trainer.num_generations, trainer.accelerator.process_index * len(ids)
    own = []
    for start in range(0, len(ids), size):
        rows = slice(start, start + size)
        own.append(
            SampledGroup(
                batch.rows[start],
                ids[rows],
                logps and logps[rows],
                rewards[first + start : first + start + size].cpu(),
                {name: values[rows] for name, values in extra.items()},
                sum(map(len, prompt_ids[rows])) + sum(map(len, ids[rows])),
            )
        )
    return gather_object(own)


@contextmanager
def metrics_unchanged(trainer: RolloutTrainer) -> Iterator[None]:
    """Context after which TRL's metrics and count of tokens are as before: those of a step are of what it keeps."""
    metrics = {name: list(values) for name, values in trainer._metrics["train"].items()}
    tokens = trainer.state.num_input_tokens_seen
    yield
    trainer._metrics["train"].clear()
    trainer._metrics["train"].update(metrics)
    trainer.state.num_input_tokens_seen = tokens


def log_resampling(trainer: RolloutTrainer, slots: Sequence[SampledGroup], sampled: Sequence[SampledGroup]) -> None:
    """Count completions of this generation, and the tokens of those that are not learned from."""
    kept = {id(group) for group in slots}
    discarded = [group for group in sampled if id(group) not in kept]
    trainer.state.num_input_tokens_seen += sum(group.tokens for group in discarded)
    totals = torch.cat([group.rewards for group in sampled]).nan_to_num(0.0) @ trainer.reward_weights.cpu()
    values = {
        "rollouts/sampled": float(len(totals)),
        "rollouts/discarded": float(len(discarded) * trainer.num_generations),
        "rollouts/without_spread": sum(not spreads(trainer, group) for group in sampled) / len(sampled),
        "rollouts/reward": totals.mean().item(),
    }
    for name, value in values.items():
        trainer._metrics["train"][name].append(value)


def joined_batch(
    trainer: RolloutTrainer, slots: Sequence[SampledGroup], loaded: dict[int, LoadedRow], skip_old_pass: bool
) -> GenerationBatch:
    """This rank's slots as a batch that is sampled and scored; rows that another rank sampled are loaded here."""
    size, ranks = trainer.num_generations, trainer.accelerator.num_processes
    own = slice_of_rank(slots, trainer.accelerator.process_index, ranks)
    moved = [group.row for group in own if group.row["row"] not in loaded]
    if moved or ranks > 1:
        loaded = loaded | loaded_rows(trainer.new_batch(moved, beside=True))
    rows = [group.row for group in own for _ in range(size)]
    examples, prompts = zip(*(loaded[row["row"]] for row in rows), strict=True)
    for name in sorted({name for group in own for name in group.columns}):
        values = [value for group in own for value in group.columns.get(name, [None] * size)]
        trainer._pending_extra_logs[name].extend(values)
    ids = [row for group in own for row in group.ids]
    logps = None if own[0].logps is None else [row for group in own for row in group.logps]
    rewards = torch.cat([group.rewards for group in slots]).to(trainer.accelerator.device)
    return GenerationBatch(rows, list(examples), list(prompts), skip_old_pass, SampledBatch(ids, logps, rewards))
