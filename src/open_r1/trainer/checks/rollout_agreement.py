"""Checks once that rollouts and training give the log-probs of the model, on the first batch that is generated.

Rollouts compute token by token from a shared KV cache, training in one packed pass. If a family's positions, masks or
image features differ between them, the policy is trained on log-probs of another model, and no metric shows it:
without vLLM, TRL has no log-probs of the sampling. So those of three groups are recorded and compared with the
trainer's own pass over the same tokens: the first, and those of the shortest and the longest prompt, as a prompt is
padded to the longest. Where rollouts and training could both be wrong, having their positions from one place, one row
of each group is computed alone too, by the model's own count. Later rollouts have no cost.
"""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import torch
from transformers import PreTrainedModel, StoppingCriteria
from trl.models.utils import disable_gradient_checkpointing

from open_r1.errors import RunEnded
from open_r1.models.model_parts import bare_model
from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import ToolTurns, Trajectory
from open_r1.trainer.forward.log_probs import computation_bytes
from open_r1.trainer.forward.shared_prefix import dropout_of
from open_r1.trainer.protocols import RolloutTrainer

# bytes of a number in the computation -> mean |difference| in nats; measured with the tiny VLM: 5e-7, bfloat16 3e-5
MAX_DIFFERENCE_BY_BYTES = {4: 0.01, 2: 0.1}


class Disagreement(RunEnded):
    """Sampling and training give different log-probs to the same tokens."""


class LogProbRecorder(StoppingCriteria):
    """Records the log-probs that `generate` gives to the sampled tokens of the `watched` rows; it stops no row.

    `rows` are places among the rows of the turn in progress, which `rollout.generation` updates when finished rows
    leave the batch; `turn_rows` are the numbers of the latter. `logps` holds a list for each turn of a watched row.
    """

    def __init__(self, model: PreTrainedModel, watched: Sequence[range], temperature: float):
        self.watched, self.temperature = watched, temperature
        self.rows, self.turn_rows = torch.arange(0), range(0)
        self.logps: dict[int, list[list[float]]] = {row: [] for rows in watched for row in rows}
        self.handle = model.register_forward_hook(self._record_logits)

    def begin_turn(self, rows: Sequence[int]) -> None:
        """What is recorded from now on belongs to the next turn of these rows."""
        self.turn_rows = rows
        for row in self.logps.keys() & set(rows):
            self.logps[row].append([])

    def of(self, row: int, trajectory: Trajectory) -> list[float]:
        """The log-probs of the sampled tokens of a watched row; a turn goes on behind its end until its row leaves."""
        lengths = [len(segment.ids) for segment in trajectory.segments if segment.sampled]
        return [logp for turn, length in zip(self.logps[row], lengths, strict=True) for logp in turn[:length]]

    def _record_logits(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self.logits = output.logits[:, -1]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        numbers = [self.turn_rows[row] for row in self.rows.tolist()]
        at = [(place, row) for place, row in enumerate(numbers) if row in self.logps]
        places = torch.tensor([place for place, _ in at], dtype=torch.long, device=self.logits.device)
        logps = (self.logits[places].float() / self.temperature).log_softmax(dim=-1)
        sampled = logps.gather(1, input_ids.to(places.device)[places, -1:])[:, 0]
        for (_, row), logp in zip(at, sampled.tolist(), strict=True):
            self.logps[row][-1].append(logp)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def recorder_for(trainer: RolloutTrainer, model: PreTrainedModel, prompts: Sequence[Prompt]) -> LogProbRecorder | None:
    """A recorder for groups of this process's first generation, else None; None with dropout too, which makes any two
    passes differ."""
    if trainer.agreement_checked or dropout_of(bare_model(model)):
        return None
    trainer.agreement_checked = True
    return LogProbRecorder(bare_model(model), watched_groups(prompts), trainer.temperature)


def watched_groups(prompts: Sequence[Prompt]) -> list[range]:
    """The rows of the first group, of that with the shortest and of that with the longest prompt; always three, so
    that all ranks make as many passes."""
    unique, numbers = groups_of(prompts)
    lengths = [len(prompt.ids) for prompt in unique]
    chosen = (0, lengths.index(min(lengths)), lengths.index(max(lengths)))
    return [range(numbers.index(number), numbers.index(number) + numbers.count(number)) for number in chosen]


def check_agreement(
    trainer: RolloutTrainer,
    recorder: LogProbRecorder,
    prompts: Sequence[Prompt],
    completions: Sequence[Trajectory],
    turns: Sequence[ToolTurns | None] = (),
) -> float:
    """Mean |difference| of the log-probs of a watched group, the largest of all groups and ranks. Raises Disagreement,
    on all ranks."""
    recorder.handle.remove()
    gaps: list[tuple[float, float]] = []  # of each group: rollouts from training, training from rows alone
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        for rows in recorder.watched:
            batch = (trainer, prompts, completions, turns)
            training = logps_of(*batch, rows)
            alone = logps_of(*batch, rows[:1], shared=False, own_positions=True)
            sampling = [recorder.of(row, completions[row]) for row in rows]
            gaps.append((mean_gap(sampling, training), mean_gap(training[:1], alone)))
    largest = torch.tensor(gaps, device=trainer.accelerator.device).amax(dim=0)[None]
    from_training, from_alone = trainer.accelerator.gather(largest).amax(dim=0).tolist()
    limit = MAX_DIFFERENCE_BY_BYTES[computation_bytes(trainer)]
    if not from_training <= limit:
        raise Disagreement(
            f"the first rollout: got log-probs that differ from training's by {from_training:.3g} nats a token, "
            f"expected at most {limit:g}: generating and training do not compute the same, and the policy would be "
            "trained on another; try --prefill_once false, --shared_prefix false, or --attn_implementation eager"
        )
    if not from_alone <= limit:
        raise Disagreement(
            f"the first rollout: got log-probs in training that differ by {from_alone:.3g} nats a token from those of "
            f"a row alone, expected at most {limit:g}: the positions or masks of its batches are not the model's own; "
            "try --shared_prefix false --prefill_once false"
        )
    return max(from_training, from_alone)


def logps_of(
    trainer: RolloutTrainer,
    prompts: Sequence[Prompt],
    completions: Sequence[Trajectory],
    turns: Sequence[ToolTurns | None],
    rows: range,
    **options: Any,
) -> list[list[float]]:
    """The trainer's log-probs of the tokens that were sampled in these rows; `options` go to `score_completions`."""
    ids = [completions[row].ids for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
    batch = ([prompts[row] for row in rows], padded.to(trainer.accelerator.device), list(map(len, ids)))
    if turns:
        options["turns"] = [turns[row] for row in rows]
    logps = trainer.score_completions(trainer.model, *batch, **options).logps.tolist()
    return [list(compress(own, completions[row].scored)) for own, row in zip(logps, rows, strict=True)]


def mean_gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Mean |difference| of two lists of rows of log-probs.

    >>> mean_gap([[-1.0, -2.0], [-3.0]], [[-1.0, -2.5], [-4.0]])
    0.5
    """
    pairs = [pair for rows in zip(ours, theirs, strict=True) for pair in zip(*rows, strict=True)]
    return sum(abs(a - b) for a, b in pairs) / len(pairs)
