"""Checks once that rollouts and training give the same log-probs, on the first group that transformers generates.

Rollouts compute token by token from a shared KV cache, training in one packed pass. If a family's positions, masks or
image features differ between them, the policy is trained on log-probs of another model, and no metric shows it:
without vLLM, TRL has no log-probs of the sampling. So those of one group are recorded and compared with the trainer's
own pass over the same tokens. Later rollouts have no cost.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, StoppingCriteria
from trl.models.utils import disable_gradient_checkpointing

from open_r1.errors import RunEnded
from open_r1.models.families import bare_model
from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.forward.log_probs import computation_bytes
from open_r1.trainer.forward.shared_prefix import dropout_of
from open_r1.trainer.protocols import RolloutTrainer

# bytes of a number in the computation -> mean |difference| in nats; measured with the tiny VLM: 5e-7, bfloat16 3e-5
MAX_DIFFERENCE_BY_BYTES = {4: 0.01, 2: 0.1}


class Disagreement(RunEnded):
    """Sampling and training give different log-probs to the same tokens."""


class LogProbRecorder(StoppingCriteria):
    """Records the log-probs that `generate` gives to the sampled tokens of the first `count` rows; it stops no row.

    `rows` are the numbers of the batch's rows, which `rollout.generation` updates when finished rows leave it.
    """

    def __init__(self, model: PreTrainedModel, count: int, temperature: float):
        self.count, self.temperature = count, temperature
        self.rows = torch.arange(0)
        self.logps: list[list[float]] = [[] for _ in range(count)]
        self.handle = model.register_forward_hook(self._record_logits)

    def _record_logits(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self.logits = output.logits[:, -1]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        rows = [row for row in self.rows.tolist() if row < self.count]  # they are first in the batch
        logps = (self.logits[: len(rows)].float() / self.temperature).log_softmax(dim=-1)
        sampled = logps.gather(1, input_ids[: len(rows), -1:].to(logps.device))[:, 0]
        for row, logp in zip(rows, sampled.tolist(), strict=True):
            self.logps[row].append(logp)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def recorder_for(trainer: RolloutTrainer, model: PreTrainedModel, prompts: Sequence[Prompt]) -> LogProbRecorder | None:
    """A recorder for the first group of this process's first generation, else None; None with dropout too, which makes
    any two passes differ."""
    if trainer.agreement_checked or dropout_of(bare_model(model)):
        return None
    trainer.agreement_checked = True
    return LogProbRecorder(bare_model(model), groups_of(prompts)[1].count(0), trainer.temperature)


def check_agreement(
    trainer: RolloutTrainer,
    recorder: LogProbRecorder,
    prompts: Sequence[Prompt],
    completion_ids: Sequence[list[int]],
) -> float:
    """Mean |difference| of the log-probs of the first group, the largest of all ranks. Raises Disagreement, on all."""
    recorder.handle.remove()
    ids, device = completion_ids[: recorder.count], trainer.accelerator.device
    completions = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True).to(device)
    lengths = [len(row) for row in ids]
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        training = trainer.score_completions(trainer.model, prompts[: recorder.count], completions, lengths).logps
    pairs = [
        (training[row, : len(tokens)].tolist(), recorder.logps[row][: len(tokens)]) for row, tokens in enumerate(ids)
    ]
    gaps = [abs(a - b) for logps, sampling_logps in pairs for a, b in zip(logps, sampling_logps, strict=True)]
    mean = torch.tensor([sum(gaps) / len(gaps)], device=device)
    difference = float(trainer.accelerator.gather(mean).max())
    limit = MAX_DIFFERENCE_BY_BYTES[computation_bytes(trainer)]
    if not difference <= limit:
        raise Disagreement(
            f"the first rollout: got log-probs that differ from training's by {difference:.3g} nats a token, expected "
            f"at most {limit:g}: generating and training do not compute the same, and the policy would be trained on "
            "another; try --prefill_once false, --shared_prefix false, or --attn_implementation eager"
        )
    return difference
