"""Rollouts on vLLM: the policy's weights before the first use of each step, prompts once each, ranks in agreement.

An engine that is lost (a server that died or was started anew) is met again once and given the weights again; if that
fails, every rank raises the same EngineError, so that none waits for another and the run can end with a checkpoint.
"""

import logging
import random
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from accelerate.utils import gather_object

from open_r1.errors import RunEnded
from open_r1.models.families import bare_model, no_family, vision_parameters
from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Example
from open_r1.rollout.vllm.policy_weights import policy_weights
from open_r1.rollout.vllm.types import EngineError, EngineLost, Request, SampledCompletion, Sampling
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.protocols import RolloutTrainer

logger = logging.getLogger(__name__)

_Value = TypeVar("Value")
MAX_MEAN_DIFFERENCE = 0.3  # mean |log-prob of vLLM - of the trainer|, in nats; bfloat16 alone gives about 0.02


class VLLMRollouts:
    """The engine of a `VLMGRPOTrainer`, chosen by `--vllm_mode`; all ranks call every method together."""

    def __init__(self, trainer: RolloutTrainer, banned: Sequence[int]):
        self.trainer, self.args, self.loader = trainer, trainer.args, trainer.loader
        self.run = gather_object([uuid.uuid4().hex])[0]
        self.sampling = training_sampling(trainer, banned)
        accelerator = trainer.accelerator
        rank = (accelerator.process_index, accelerator.local_process_index, accelerator.num_processes)
        weights = partial(policy_weights, trainer.model, trainer._dist.gather_params)
        start = engine_class(self.args.vllm_mode)
        self.engine = self.together(
            lambda: start(bare_model(trainer.model), trainer.processing_class, self.args, rank, weights)
        )
        self.synced = None if self.engine.stale else self.policy  # a colocated engine starts from the policy's weights

    @property
    def policy(self) -> str:
        """The policy's name, another one after each optimizer step."""
        return f"{self.run}/{self.trainer.state.global_step}"

    def rollout(self, examples: Sequence[Example], step: int) -> tuple[list[list[int]], list[list[float]]]:
        """Token ids and log-probs of one completion a row; rows of a group hold the same Example.

        Raises EngineError, on all ranks, where the engine is lost for good or reads prompts otherwise, and Stopped.
        """
        heads, group = groups_of(examples)
        label = f"{'train' if self.trainer.model.training else 'eval'}/{self.trainer.state.global_step}/{step}"
        asked = [self.request(head, group.count(i), label) for i, head in enumerate(heads)]
        try:
            answers = self.attempt(asked)
        except EngineLost as lost:
            logger.warning("%s; meeting it again", lost)
            self.together(self.engine.connect)
            answers = self.attempt(asked)
        said = [completion for answer in answers for completion in answer]
        return [c.ids for c in said], [c.logps for c in said]

    def attempt(self, asked: Sequence[Request]) -> list[list[SampledCompletion]]:
        if self.synced != self.policy or self.engine.stale:
            self.together(lambda: self.engine.sync(vision_is_frozen(self.trainer.model), self.policy))
            self.synced = self.policy
        return self.together(lambda: self.engine.generate(asked, self.sampling, self.trainer.signals.look))

    def request(self, example: Example, count: int, label: str) -> Request:
        """Its seed depends on run seed, step and row alone: a resumed run draws what the whole one would have."""
        seed = random.Random(f"{self.args.seed}/{label}/{example.record.where}").getrandbits(31)
        return self.loader.request(example, count, seed)

    def together(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns here; raises on all ranks what it raised on any, an EngineError for what is vLLM's."""

        def engine_says() -> _Value:
            try:
                return call()
            except RunEnded:
                raise
            except Exception as raised:  # vLLM's own
                logger.exception("vLLM failed")
                raise EngineError(f"vLLM failed: {type(raised).__name__}: {raised}") from raised

        return on_all_ranks(engine_says)

    def check(self, metrics: dict[str, list[float]]) -> None:
        """Raises EngineError where the newest rollouts are not the policy's: TRL's mean difference of log-probs."""
        differences = metrics.get("sampling/sampling_logp_difference/mean")
        if differences and differences[-1] > MAX_MEAN_DIFFERENCE:
            raise EngineError(
                f"--use_vllm: vLLM drew tokens whose log-probs differ from the policy's by {differences[-1]:.2f} on "
                f"average, expected less than {MAX_MEAN_DIFFERENCE}: it does not run the same model; leave "
                "--use_vllm out"
            )


def engine_class(mode: str) -> Callable[..., Any]:
    """Importing vLLM takes seconds, so only the chosen engine's module is imported."""
    if mode == "server":
        from open_r1.rollout.vllm.server_client import ServerEngine

        return ServerEngine
    from open_r1.rollout.vllm.colocate import ColocatedEngine

    return ColocatedEngine


def training_sampling(trainer: RolloutTrainer, banned: Sequence[int]) -> Sampling:
    """How TRL's flags say that completions are drawn."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return Sampling(
        **{name: getattr(trainer, name) for name in names},
        max_tokens=trainer.max_completion_length,
        stops=trainer.eos_token_ids,
        banned=banned,
        regex=trainer.args.vllm_structured_outputs_regex,
        extra=trainer.args.generation_kwargs or {},
    )


def vision_is_frozen(model: Any) -> bool:
    model = bare_model(model)
    return no_family(model) is None and not any(p.requires_grad for p in vision_parameters(model))
