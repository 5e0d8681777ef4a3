"""The gradient of a kept step by the run's own trainer: its completions and rewards are given, nothing is sampled.

One process stands for all ranks: it takes their micro-batches in turn, as many more of them before a step, so that
TRL's means over micro-batches and tokens are those of the run. The policy is that of `checkpoint-(N-1)`, which step N
changed; where step N learns from a generation of a step before it, the log-probs of the policy that sampled it are
those that the run saved in that checkpoint.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import OptimizerNames

from open_r1.config.validation import rewards_of
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.errors import UsageError
from open_r1.models.loading import load_processor
from open_r1.replay.flags import Sections, Words, parsed_settings
from open_r1.replay.kept import KeptStep, refuse_other_files, rows_of_step
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.turns import TurnRollout
from open_r1.trainer.checkpointing.file_facts import model_facts, processor_facts
from open_r1.trainer.checkpointing.reference_model import load_reference
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.generation_batch import GenerationBatch, SampledBatch
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.run import make_grpo_trainer, reward_weights_of
from open_r1.trainer.tool_turns import kept_rollouts, listed_tools

OF_SAMPLING_POLICY = ("old_per_token_logps", "importance_sampling_ratio", "ref_per_token_logps")  # (N, C) or (N, 1)


@dataclass(frozen=True)
class Gradient:
    """What a step learned: `logs` as metrics.jsonl has them, and the gradient of each weight, in float32 on the CPU,
    before it is clipped."""

    logs: dict[str, float]
    gradients: dict[str, torch.Tensor]

    def cosine(self, other: "Gradient") -> float:
        """The cosine with another gradient in [-1, 1]; NaN where one of them is 0."""
        products = [self.dot(other), self.dot(self), other.dot(other)]
        return products[0] / (products[1] * products[2]) ** 0.5 if products[1] and products[2] else float("nan")

    def dot(self, other: "Gradient") -> float:
        """The inner product with another gradient."""
        pairs = [(value, other.gradients[name]) for name, value in self.gradients.items() if name in other.gradients]
        return sum(torch.dot(a.flatten().double(), b.flatten().double()).item() for a, b in pairs)


@dataclass(frozen=True)
class GivenRollouts:
    """The completions of a kept step by the number of their group, as one process takes them, and the `window` that
    the run saved for a step inside of a generation, None for others."""

    rows: list[int]
    where: list[str]
    ids: list[list[list[int]]]
    logps: list[list[list[float]]] | None
    rewards: torch.Tensor  # (groups, group, functions)
    rollouts: list[list[TurnRollout]] | None = None  # with tools, without tensors
    window: list[dict[str, Any]] | None = None


class ReplayedTrainer(VLMGRPOTrainer):
    """The run's trainer, whose rows are the groups of a kept step, in order, and whose rollouts are given."""

    given: GivenRollouts

    def new_batch(self, inputs: list[RowNumber], beside: bool = False) -> GenerationBatch:
        batch = super().new_batch(inputs, beside)
        groups = [row["row"] for row in inputs[:: self.num_generations]]
        ids = [row for group in groups for row in self.given.ids[group]]
        logps = None if self.given.logps is None else [row for group in groups for row in self.given.logps[group]]
        batch.sampled = SampledBatch(ids, logps, self.given.rewards[groups].flatten(0, 1).to(self.accelerator.device))
        if self.given.rollouts is not None:
            batch.take_rollouts([self.rollout_again(one) for group in groups for one in self.given.rollouts[group]])
        # masks of pictures depend on the row's number in the data
        batch.rows = [{**row, "row": self.given.rows[row["row"]]} for row in inputs]
        return batch

    def rollout_again(self, one: TurnRollout) -> TurnRollout:
        """A completion with tool turns, with its tensors."""
        return replace(one, tensors=self.turns_again(one.trajectory))

    def in_learned_order(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch  # its rows are in that order

    def _add_old_logps(self, micro_batches: list[dict[str, Any]]) -> None:
        if self.given.window is None:
            super()._add_old_logps(micro_batches)
            return
        for part, saved in zip(micro_batches, self.given.window, strict=True):
            width = part["completion_ids"].shape[1]
            for name in OF_SAMPLING_POLICY:
                if name in saved and (name != "ref_per_token_logps" or name in part):
                    part[name] = widened(saved[name], width).to(self.accelerator.device)

    def place_of(self, row: RowNumber) -> str:
        return self.given.where[self.given.rows.index(row["row"])]


def widened(values: torch.Tensor, width: int) -> torch.Tensor:
    """Values (N, C) of tokens with zeros up to `width`, or cut to it where those are padding; (N, 1) stay.

    >>> widened(torch.ones(1, 2), 3)
    tensor([[1., 1., 0.]])
    """
    return values if values.shape[1] == 1 else pad(values, (0, width - values.shape[1]))


class StepWatcher(TrainerCallback):
    """Gives the trainer the run's number of the step, and takes gradients and logs."""

    def __init__(self, trainer: ReplayedTrainer, step: int):
        self.trainer, self.step = trainer, step
        self.gradients: dict[str, torch.Tensor] = {}
        self.logs: dict[str, float] = {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.global_step = self.trainer._globalstep_last_logged = self.step - 1

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        named = self.trainer.accelerator.unwrap_model(self.trainer.model).named_parameters()
        self.gradients = {n: p.grad.detach().float().cpu().clone() for n, p in named if p.grad is not None}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.logs = self.logs or dict(logs or {})  # the first are the step's, the last the run's


def gradient_of(
    kept: KeptStep,
    rows: RecordDataset,
    rewards: torch.Tensor,
    checkpoint: Path | None,
    sections: Sections,
    tried: Words,
) -> Gradient:
    """The gradient of a kept step under the flags of its run with those `tried`; `rewards` (completions, functions)
    are in the order of completions, `rows` those of the run. `checkpoint`: None for the run's first policy.

    Raises UsageError for files that cannot be loaded, or that are not what they were.
    """
    with TemporaryDirectory() as folder:
        parts = kept.first.parts * kept.first.ranks
        arguments = parsed_settings(sections, tried, kept.micro_batches, parts, folder)
        task, training, model = arguments.task, arguments.training, arguments.model
        training.reward_weights = reward_weights_of(task, training)
        take_one_step(training)
        processor = load_processor(model, task, training.trust_remote_code)
        graders = [BatchReward(name) for name in rewards_of(task)]  # for their names: what they gave is given
        refuse_other_files(kept, rows, model_facts(model, training.beta) | processor_facts(processor))
        chosen = rows_of_step(kept, rows).select(kept.groups_in_order())
        made_of = (chosen, None, graders, processor, task, training, model, listed_tools(training, processor))
        trainer = make_grpo_trainer(*made_of, kind=ReplayedTrainer)
        given = given_rollouts(kept, rewards, saved_window(kept, checkpoint) if kept.offset else None)
        return replayed(trainer, given, kept, checkpoint, sections)


def take_one_step(training: Any) -> None:
    """Set what a step does with its gradient: nothing, without memory for it."""
    training.learning_rate, training.max_grad_norm = 0.0, float("inf")
    training.optim, training.stop_on = OptimizerNames.SGD, None


def replayed(
    trainer: ReplayedTrainer, given: GivenRollouts, kept: KeptStep, checkpoint: Path | None, sections: Sections
) -> Gradient:
    """The gradient that a trainer computes of what it is given."""
    trainer.given, trainer.packing_checked, trainer.agreement_checked = given, True, True
    if given.logps is not None:
        trainer.use_vllm = trainer.args.use_vllm = True  # without an engine: its log-probs are given
        for name in ("correction", "mode", "clip_max", "clip_min"):
            flag = f"vllm_importance_sampling_{name}"
            setattr(trainer, flag, sections["training"][flag])
    if checkpoint is not None:
        trainer._load_from_checkpoint(str(checkpoint))
        load_reference(trainer, checkpoint)
    trainer._step = kept.offset
    watcher = StepWatcher(trainer, kept.step)
    for callback in (WeightUpdates, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(watcher)
    trainer.train()
    return Gradient(watcher.logs, watcher.gradients)


def given_rollouts(kept: KeptStep, rewards: torch.Tensor, window: list[dict[str, Any]] | None = None) -> GivenRollouts:
    """The completions of a kept step with these rewards (completions, functions), groups as one process takes them."""
    size, parts, order = kept.first.group, kept.parts, kept.groups_in_order()
    rows, where = ([value for part in parts for value in getattr(part, name)] for name in ("rows", "where"))
    ids, rollouts = [row for part in parts for row in part.ids], [one for part in parts for one in kept_rollouts(part)]
    logps = None if parts[0].logps is None else [row for part in parts for row in part.logps or ()]
    return GivenRollouts(
        [rows[group] for group in order],
        [where[group] for group in order],
        [ids[group * size :][:size] for group in order],
        None if logps is None else [logps[group * size :][:size] for group in order],
        rewards.view(-1, size, rewards.shape[1])[order],
        [rollouts[group * size :][:size] for group in order] if rollouts else None,
        window,
    )


def saved_window(kept: KeptStep, checkpoint: Path | None) -> list[dict[str, Any]]:
    """The micro-batches of the open generation that the run saved with a checkpoint: of all ranks, in turn.

    Raises UsageError where it holds other completions than the kept ones.
    """
    ranks = [
        torch.load(f"{checkpoint}/run_state_{part.rank}.pt", map_location="cpu", weights_only=True)["window"]
        for part in kept.generations[0]
    ]
    for part, window in zip(kept.generations[0], ranks, strict=True):
        saved = [row for cut in window or () for row in cut["completion_ids"].tolist()]
        if len(saved) != len(part.ids) or any(
            row[: len(ids)] != ids for row, ids in zip(saved, part.ids, strict=True)
        ):
            raise UsageError(
                f"{checkpoint}: got a checkpoint without the generation that step {kept.step} learns from, expected "
                "the one that the run saved before that step; add --advantages_only"
            )
    return [window[cut] for cut in range(kept.first.parts) for window in ranks]
