"""The run's own trainer with phases around its parts, shortened where parts are alike.

Of a rollout the prompts' pass and the first tokens run, of an optimizer step two micro-batches, of the passes before
it two batches; all else is counted as many times as it would run.
"""

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from transformers import TrainerCallback

from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.on_device import DEVICE
from open_r1.rehearse.ways_round import replaced
from open_r1.rollout import generation
from open_r1.trainer.forward.log_probs import LogProbPasses
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

FIRST_TOKENS, PARTS = 3, 2  # of a rollout; micro-batches of a step, and batches of other passes


class RehearsedTrainer(VLMGRPOTrainer):
    """`books`: the fake device; `completion`: tokens of each completion; `rolls_out`: else vLLM does; `sampled`: the
    token of which completions are made. `repeats`: phase -> how often it would run for once that it ran."""

    books: FakeDevice
    completion: int
    rolls_out: bool
    sampled: int
    done = 0

    def prepare_rehearsal(self, books: FakeDevice, completion: int, rolls_out: bool, sampled: int) -> None:
        """Set what is rehearsed, and leave out checks of the first step that compare numbers."""
        self.books, self.completion, self.rolls_out, self.sampled = books, completion, rolls_out, sampled
        self.repeats: dict[str, float] = {}
        self.packing_checked = self.agreement_checked = True
        self.add_callback(OptimizerPhase(self))

    def _completions(self, *args: Any, **kwargs: Any) -> Any:
        self.seen_prompts, rows = self.batch.prompts, len(self.batch.prompts)
        if self.rolls_out:
            config, prefill = self.generation_config, generation.prefill
            longest, config.max_new_tokens = config.max_new_tokens, min(FIRST_TOKENS, self.completion)

            def prompts_pass(*prompts: Any) -> Any:
                with self.books.phase("prompts"):
                    return prefill(*prompts)

            with self.books.phase("tokens"), replaced(generation, "prefill", prompts_pass):
                super()._completions(*args, **kwargs)
            config.max_new_tokens = longest
            self.repeats["tokens"] = self.completion / min(FIRST_TOKENS, self.completion)
        return [[self.sampled] * self.completion] * rows, None

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        call = (self, model, input_ids, attention_mask, logits_to_keep, batch_size)
        if torch.is_grad_enabled():
            return LogProbPasses._get_per_token_logps_and_entropies(*call, **kwargs)
        with self.books.phase("reference" if model is self.ref_model or self.beta else "old"):
            rows = len(input_ids)
            few = min(rows, PARTS * (batch_size or rows))
            self.repeats[self.books.now] = rows / few
            prompts, self.batch.prompts = self.batch.prompts, self.batch.prompts[:few]
            try:
                call = (self, model, input_ids[:few], attention_mask[:few], logits_to_keep, batch_size)
                found = LogProbPasses._get_per_token_logps_and_entropies(*call, **kwargs)
            finally:
                self.batch.prompts = prompts
        again = [number % few for number in range(rows)]
        return tuple(part if part is None or not part.dim() else part[again] for part in found)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.done += 1
        if self.done > PARTS:
            return torch.zeros((), device=DEVICE)
        with self.books.phase("policy"):
            return super().training_step(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        with self.books.phase("rewards"):
            return super()._generate_and_score_completions(inputs)

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        self.repeats["policy"] = self.done / min(self.done, PARTS)
        with self.books.phase("optimizer"):
            return super()._clip_grad_norm(model)


class OptimizerPhase(TrainerCallback):
    """Gives the optimizer its states before the first step, as later steps have them, and its step a phase."""

    def __init__(self, trainer: RehearsedTrainer):
        self.trainer, self.stack = trainer, ExitStack()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        books = self.trainer.books
        self.before = books.ledger.alive
        optimizer = self.trainer.optimizer.optimizer
        with books.phase("start"):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.empty_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.trainer.optimizer_bytes = books.ledger.alive - self.before
        books.ledger.peaks = Counter()
        books.work.kernels.clear()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.stack.enter_context(self.trainer.books.phase("optimizer"))

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.stack.close()
