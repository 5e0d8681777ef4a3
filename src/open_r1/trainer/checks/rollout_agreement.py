"""Do rollouts and training compute the same? Asked once, of the first group that transformers generates.

Rollouts go token by token from a shared KV cache, training in one packed pass; where a family's positions, masks or
image features come out otherwise in one of them, the policy is trained on log-probs of another model, and no metric
says so: without vLLM nobody keeps those that tokens were drawn with. So of one group they are kept, and the trainer's
own pass over the same tokens must give the same. Afterwards nothing is looked at and nothing costs.
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
from open_r1.trainer.forward.shared_prefix import dropout_of
from open_r1.trainer.protocols import RolloutTrainer

# bytes of a number computed with -> mean |difference| in nats; seen: 5e-7, and 3e-5 in bfloat16 with the tiny VLM
MAX_DIFFERENCE_BY_BYTES = {4: 0.01, 2: 0.1}


class Disagreement(RunEnded):
    """Tokens were drawn with other log-probs than the trainer gives them."""


class LogProbRecorder(StoppingCriteria):
    """Keeps the log-probs that the passes of `generate` give to the tokens drawn for the first `count` rows; it never
    stops. `rows` are the numbers of the batch's rows, which `rollout` sets as rows that ended leave."""

    def __init__(self, model: PreTrainedModel, count: int, temperature: float):
        self.count, self.temperature = count, temperature
        self.rows = torch.arange(0)
        self.logps: list[list[float]] = [[] for _ in range(count)]
        self.handle = model.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self.logits = output.logits[:, -1]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        mine = [row for row in self.rows.tolist() if row < self.count]  # they stand first
        logps = (self.logits[: len(mine)].float() / self.temperature).log_softmax(dim=-1)
        drawn = logps.gather(1, input_ids[: len(mine), -1:].to(logps.device))[:, 0]
        for row, logp in zip(mine, drawn.tolist(), strict=True):
            self.logps[row].append(logp)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def recorder_for(trainer: RolloutTrainer, model: PreTrainedModel, prompts: Sequence[Prompt]) -> LogProbRecorder | None:
    """A Witness of the first group of the first generation of this process; none with dropout, as then no two passes
    agree."""
    if trainer.agreed or dropout_of(bare_model(model)):
        return None
    trainer.agreed = True
    return LogProbRecorder(bare_model(model), groups_of(prompts)[1].count(0), trainer.temperature)


def check_agreement(
    trainer: RolloutTrainer, witness: LogProbRecorder, prompts: Sequence[Prompt], said: Sequence[list[int]]
) -> float:
    """Mean |difference| of the log-probs of the first group, the largest of all ranks. Raises Disagreement, on all."""
    witness.handle.remove()
    ids, device = said[: witness.count], trainer.accelerator.device
    completions = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True).to(device)
    lengths = [len(row) for row in ids]
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        ours = trainer.score_completions(trainer.model, prompts[: witness.count], completions, lengths).logps
    pairs = [(ours[row, : len(tokens)].tolist(), witness.logps[row][: len(tokens)]) for row, tokens in enumerate(ids)]
    gaps = [abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)]
    mean = torch.tensor([sum(gaps) / len(gaps)], device=device)
    difference = float(trainer.accelerator.gather(mean).max())
    low = trainer.accelerator.mixed_precision in ("bf16", "fp16") or trainer.model.dtype.itemsize == 2
    limit = MAX_DIFFERENCE_BY_BYTES[2 if low else 4]
    if not difference <= limit:
        raise Disagreement(
            f"the first rollout: got log-probs that differ from training's by {difference:.3g} nats a token, expected "
            f"at most {limit:g}: generating and training do not compute the same, and the policy would be trained on "
            "another; try --prefill_once false, --shared_prefix false, or --attn_implementation eager"
        )
    return difference
