"""Rollouts on vLLM: weights synced before the first use in a step, each prompt sent once, errors raised on all ranks.

After the loss of an engine (a server that died or was restarted) it is connected once more and gets the weights again;
if that fails, all ranks raise the same EngineError, so that no rank waits and the run can end with a checkpoint.
"""

import logging
import random
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from accelerate.utils import gather_object

from open_r1.errors import RunEnded
from open_r1.models.families import bare_model
from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Example
from open_r1.rollout.vllm.policy_weights import policy_weights
from open_r1.rollout.vllm.types import EngineError, EngineLost, Request, SampledCompletion, Sampling
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.forward.dummy_image import vision_is_trained
from open_r1.trainer.protocols import RolloutTrainer

logger = logging.getLogger(__name__)

_Value = TypeVar("Value")
MAX_MEAN_DIFFERENCE = 0.3  # mean |log-prob of vLLM - log-prob of the trainer| in nats; bfloat16 gives about 0.02


class VLLMRollouts:
    """Rollouts of a `VLMGRPOTrainer` by the engine of `--vllm_mode`; all ranks call every method together."""

    def __init__(self, trainer: RolloutTrainer, banned: Sequence[int]):
        self.trainer, self.args, self.loader = trainer, trainer.args, trainer.loader
        self.run = gather_object([uuid.uuid4().hex])[0]
        self.sampling = training_sampling(trainer, banned)
        accelerator = trainer.accelerator
        rank = (accelerator.process_index, accelerator.local_process_index, accelerator.num_processes)
        weights = partial(policy_weights, trainer.model, trainer._dist.gather_params)
        start = engine_class(self.args.vllm_mode)
        self.engine = self.call_engine(
            lambda: start(bare_model(trainer.model), trainer.processing_class, self.args, rank, weights)
        )
        self.engine_policy = None if self.engine.stale else self.policy  # a colocated engine starts with its weights

    @property
    def policy(self) -> str:
        """The policy's name, which changes with each optimizer step."""
        return f"{self.run}/{self.trainer.state.global_step}"

    def rollout(self, examples: Sequence[Example], step: int) -> tuple[list[list[int]], list[list[float]]]:
        """Token ids and log-probs of one completion a row; rows of a group hold the same Example.

        Raises EngineError, on all ranks, for an engine that is lost or that reads prompts differently; and RunStopped.
        """
        heads, group = groups_of(examples)
        label = f"{'train' if self.trainer.model.training else 'eval'}/{self.trainer.state.global_step}/{step}"
        requests = [self.request(head, group.count(i), label) for i, head in enumerate(heads)]
        try:
            answers = self.generate(requests)
        except EngineLost as error:
            logger.warning("%s; meeting it again", error)
            self.call_engine(self.engine.connect)
            answers = self.generate(requests)
        completions = [completion for answer in answers for completion in answer]
        return [c.ids for c in completions], [c.logps for c in completions]

    def generate(self, requests: Sequence[Request]) -> list[list[SampledCompletion]]:
        """The completions of each request, with the policy's weights in the engine."""
        if self.engine_policy != self.policy or self.engine.stale:
            frozen_vision = not vision_is_trained(bare_model(self.trainer.model))
            self.call_engine(lambda: self.engine.sync(frozen_vision, self.policy))
            self.engine_policy = self.policy
        check_stop = self.trainer.signals.raise_if_requested
        return self.call_engine(lambda: self.engine.generate(requests, self.sampling, check_stop))

    def request(self, example: Example, count: int, label: str) -> Request:
        """A request; its seed depends on run seed, step and row alone, so that a resumed run samples the same."""
        seed = random.Random(f"{self.args.seed}/{label}/{example.record.where}").getrandbits(31)
        return self.loader.request(example, count, seed)

    def call_engine(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns on this rank. All ranks raise what it raises on any; vLLM's errors as EngineError."""

        def with_engine_errors() -> _Value:
            try:
                return call()
            except RunEnded:
                raise
            except Exception as raised:  # vLLM's own
                logger.exception("vLLM failed")
                raise EngineError(f"vLLM failed: {type(raised).__name__}: {raised}") from raised

        return on_all_ranks(with_engine_errors)

    def check(self, metrics: dict[str, list[float]]) -> None:
        """Raises EngineError if TRL's metric, the mean difference of log-probs, shows rollouts of another policy."""
        differences = metrics.get("sampling/sampling_logp_difference/mean")
        if differences and differences[-1] > MAX_MEAN_DIFFERENCE:
            raise EngineError(
                f"--use_vllm: vLLM drew tokens whose log-probs differ from the policy's by {differences[-1]:.2f} on "
                f"average, expected less than {MAX_MEAN_DIFFERENCE}: it does not run the same model; leave "
                "--use_vllm out"
            )


def engine_class(mode: str) -> Callable[..., Any]:
    """The engine of `--vllm_mode`. Its module alone is imported, which takes seconds."""
    if mode == "server":
        from open_r1.rollout.vllm.server_client import ServerEngine

        return ServerEngine
    from open_r1.rollout.vllm.colocate import ColocatedEngine

    return ColocatedEngine


def training_sampling(trainer: RolloutTrainer, banned: Sequence[int]) -> Sampling:
    """The sampling parameters of TRL's flags."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return Sampling(
        **{name: getattr(trainer, name) for name in names},
        max_tokens=trainer.max_completion_length,
        stops=trainer.eos_token_ids,
        banned=banned,
        regex=trainer.args.vllm_structured_outputs_regex,
        extra=trainer.args.generation_kwargs or {},
    )
