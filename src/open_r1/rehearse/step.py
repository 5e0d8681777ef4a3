"""What a rehearsed step left: bytes that stay on a GPU, books of each phase, and peaks as an engine shards them."""

from dataclasses import dataclass

from open_r1.plan.dims import Dims
from open_r1.plan.settings import PlannedRun
from open_r1.plan.states import engine_buffers, state
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.rehearsed_trainer import FIRST_TOKENS

PHASES = ("prompts", "tokens", "rewards", "old", "reference", "policy", "optimizer")  # in their order


@dataclass(frozen=True)
class Step:
    """A rehearsed step on one GPU.

    `run`: the planner's settings of the same run; `bytes_` of weights, reference, optimizer and gradients; `repeats`:
    phase -> how often it would run for once that it ran; `done`: micro-batches that ran.
    """

    books: FakeDevice
    run: PlannedRun
    dims: Dims
    bytes_: dict[str, int]
    repeats: dict[str, float]
    done: int
    parameters: int
    trained: int
    steps_of_run: int
    optimizations: list[str]

    def phases(self) -> list[str]:
        """The phases that ran, in their order."""
        return [phase for phase in PHASES if phase in self.books.ledger.peaks]

    def later_cache_bytes(self) -> float:
        """Bytes of the keys and values of the tokens of a rollout that were not rehearsed, on one GPU."""
        if "tokens" not in self.repeats:
            return 0.0
        text, tokens = self.dims.text, max(0, self.run.completion_tokens - FIRST_TOKENS)
        numbers = self.run.generation_completions * tokens * text.cached * text.caching_layers
        return float(numbers * self.run.bytes_per_weight)

    def states(self) -> dict[str, float]:
        """Part -> bytes that stay on a GPU: as rehearsed, or as the engine shards them."""
        run = self.run
        if not run.engine.deepspeed:
            return {name: float(size) for name, size in self.bytes_.items()}
        parts = state(self.parameters, self.trained, 2, run.engine, run.gpus, run.reference_model, run.optim)
        return parts | {"gathered layers": engine_buffers(self.dims, run)}

    def peak(self, phase: str) -> float:
        """Bytes at the peak of a phase."""
        peak = float(self.books.ledger.peaks[phase])
        peak += self.later_cache_bytes() if phase == "tokens" else 0.0
        if not self.run.engine.deepspeed:
            return peak
        held, sharded = dict(self.bytes_), self.states()
        if phase not in ("policy", "optimizer"):
            held.pop("gradients")
            sharded.pop("gradients")
        if phase in ("prompts", "tokens") and self.run.engine.stage == 3 and self.run.gather_for_rollouts:
            sharded["gathered layers"] = 2.0 * self.parameters  # a rollout gathers all
        return peak - sum(held.values()) + sum(sharded.values())
