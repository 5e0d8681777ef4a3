"""Rollouts on vLLM: weights synced before the first use in a step, each prompt sent once, errors raised on all ranks.

After the loss of an engine (a server that died or was restarted) it is connected once more and gets the weights again;
if that fails, all ranks raise the same EngineError, so that no rank waits and the run can end with a checkpoint.
"""

import logging
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from accelerate.utils import gather_object

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.training_arguments import GRPOArguments
from open_r1.errors import UsageError
from open_r1.models.lora import adapter_config
from open_r1.models.model_parts import bare_model
from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Example
from open_r1.rollout.vllm.adapter import PolicyAdapter, refuse_adapter_sync
from open_r1.rollout.vllm.background_call import BackgroundCall
from open_r1.rollout.vllm.policy_weights import policy_weights
from open_r1.rollout.vllm.types import (
    EngineError,
    EngineLost,
    Request,
    SampledCompletion,
    Sampling,
    engine_errors,
)
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.forward.dummy_image import vision_is_trained
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.rollout_ahead import Ahead

logger = logging.getLogger(__name__)

_Value = TypeVar("Value")
MAX_MEAN_DIFFERENCE = 0.3  # mean |log-prob of vLLM - log-prob of the trainer| in nats; bfloat16 gives about 0.02
MAX_STEP_DIFFERENCE = 1.0  # the same for tokens that were drawn one step before; the first of an epoch never are


class VLLMRollouts:
    """Rollouts of a `VLMGRPOTrainer` by the engine of `--vllm_mode`; all ranks call every method together."""

    def __init__(self, trainer: RolloutTrainer, banned: Sequence[int]):
        self.trainer, self.args, self.loader = trainer, trainer.args, trainer.loader
        self.run = gather_object([uuid.uuid4().hex])[0]
        self.sampling, self.one_step_old = training_sampling(trainer, banned), False
        accelerator = trainer.accelerator
        rank = (accelerator.process_index, accelerator.local_process_index, accelerator.num_processes)
        gather = trainer._dist.gather_params
        alone = self.args.vllm_lora_sync == "adapter"
        adapter = PolicyAdapter(trainer.model, gather) if alone else None
        weights = partial(policy_weights, trainer.model, gather, merged=not alone)
        start = engine_class(self.args.vllm_mode, trainer.loader.fields.video_form == "native")
        self.engine = self.call_engine(
            lambda: start(bare_model(trainer.model), trainer.processing_class, self.args, rank, weights, adapter)
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
        training, begun = self.trainer.model.training, None
        if training:
            begun, self.trainer.ahead = self.trainer.ahead, None
        self.one_step_old = begun is not None
        try:
            completions = self.wait_for(begun) if begun else self.generate(self.requests(examples, step))
        except EngineLost as error:
            self.meet_again(error)
            self.one_step_old = False
            completions = self.generate(self.requests(examples, step))
        if training and self.args.rollout_ahead:
            self.begin_next(step)
        return [c.ids for c in completions], [c.logps for c in completions]

    def requests(self, examples: Sequence[Example], step: int, name: str = "") -> list[Request]:
        """One request a group, or two where a part of it sees other pictures."""
        heads, group = groups_of(examples)
        label = self.label(step, name)
        before = [0] + [
            group.count(i) if other.record is head.record else 0 for i, (head, other) in enumerate(pairwise(heads))
        ]
        return [self.request(head, group.count(i), label, before[i]) for i, head in enumerate(heads)]

    def label(self, step: int, name: str = "") -> str:
        """A generation's name, from which its seeds follow."""
        name = name or ("train" if self.trainer.model.training else "eval")
        return f"{name}/{self.trainer.state.global_step}/{step}"

    def generate(self, requests: Sequence[Request]) -> list[SampledCompletion]:
        """The completions of all requests, with the policy's weights in the engine."""
        self.send_weights()
        check_stop = self.trainer.signals.raise_if_requested
        return self.call_engine(lambda: self.sampled(requests, check_stop))

    def sampled(self, requests: Sequence[Request], check_stop: Callable[[], None]) -> list[SampledCompletion]:
        """The engine's completions of all requests."""
        return [one for answer in self.engine.generate(requests, self.sampling, check_stop) for one in answer]

    def greedy(self, examples: Sequence[Example]) -> list[list[int]]:
        """Token ids of one greedy completion a row, with the weights that are in the engine.

        Raises EngineError, on all ranks, and RunStopped.
        """
        requests = [self.request(example, 1, "greedy") for example in examples]
        sampling, check_stop = self.greedy_sampling, self.trainer.signals.raise_if_requested
        answers = self.call_engine(lambda: self.engine.generate(requests, sampling, check_stop))
        return [answer[0].ids for answer in answers]

    @property
    def greedy_sampling(self) -> Sampling:
        """The sampling of the run, but always of the likeliest token."""
        extra = {name: value for name, value in self.sampling.extra.items() if name != "temperature"}
        return replace(self.sampling, temperature=0.0, extra=extra)

    def send_weights(self) -> None:
        """Put the policy's weights into the engine unless it has them; what it still generates is waited for first."""
        if self.engine_policy != self.policy or self.engine.stale:
            if self.trainer.ahead:
                self.wait_for(self.trainer.ahead)
            frozen_vision = not vision_is_trained(bare_model(self.trainer.model))
            self.call_engine(lambda: self.engine.sync(frozen_vision, self.policy))
            self.engine_policy = self.policy

    def meet_again(self, error: EngineLost) -> None:
        logger.warning("%s; meeting it again", error)
        self.trainer.ahead = None
        self.call_engine(self.engine.connect)

    # ---------------------------------------------------------------------------------------------------------- ahead

    def wait_for(self, begun: Ahead) -> list[SampledCompletion]:
        """The completions of a generation that was begun. Raises EngineError, on all ranks."""
        return self.call_engine(lambda: begun.wait(self.trainer.signals.raise_if_requested))

    def begin_next(self, step: int) -> None:
        """Begin the generation of the next rows, with the policy's weights, and do not wait for it."""
        trainer = self.trainer
        rows = trainer.loader.next_rows() if trainer.state.global_step + 1 < trainer.state.max_steps else None
        if rows is None:
            return
        examples = on_all_ranks(lambda: trainer.loader.take(rows))
        requests = self.requests(examples, step, name="ahead")
        try:
            self.send_weights()
        except EngineLost as error:
            self.meet_again(error)
            self.send_weights()
        trainer.ahead = Ahead(rows, BackgroundCall(lambda: self.sampled(requests, lambda: None)))

    # --------------------------------------------------------------------------------------------------------- checks

    def request(self, example: Example, count: int, label: str, before: int = 0) -> Request:
        """A request; its seed depends on run seed, step, file name and line, so that a resumed run samples the same,
        and on the row's completions asked for before, so that none is drawn with the seed of another."""
        seed = random.Random(f"{self.args.seed}/{label}/{example.record.name_and_line}").getrandbits(31)
        return self.loader.request(example, count, seed + before)

    def call_engine(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns on this rank. All ranks raise what it raises on any; vLLM's errors as EngineError."""
        return on_all_ranks(lambda: engine_errors(call))

    def check(self, metrics: dict[str, list[float]]) -> None:
        """Raises EngineError if TRL's metric, the mean difference of log-probs, shows rollouts of another policy."""
        differences = metrics.get("sampling/sampling_logp_difference/mean")
        if differences and self.one_step_old and differences[-1] > MAX_STEP_DIFFERENCE:
            raise EngineError(
                f"--rollout_ahead: the step moved the log-probs of tokens that were drawn before it by "
                f"{differences[-1]:.2f} on average, expected less than {MAX_STEP_DIFFERENCE}; lower --learning_rate, "
                "or leave --rollout_ahead out"
            )
        if differences and not self.one_step_old and differences[-1] > MAX_MEAN_DIFFERENCE:
            raise EngineError(
                f"--use_vllm: vLLM drew tokens whose log-probs differ from the policy's by {differences[-1]:.2f} on "
                f"average, expected less than {MAX_MEAN_DIFFERENCE}: it does not run the same model; leave "
                "--use_vllm out, or start a recipe with USE_VLLM=0"
            )


def engine_class(mode: str, videos: bool = False) -> Callable[..., Any]:
    """The engine of `--vllm_mode`; `videos`: prompts hold some. Its module alone is imported, which takes seconds."""
    if mode == "server":
        from open_r1.rollout.vllm.server_client import ServerEngine

        return ServerEngine
    from open_r1.rollout.vllm.colocate import ColocatedEngine

    return partial(ColocatedEngine, videos=videos)


def refuse_unknown_to_vllm(
    training: GRPOArguments, model: VLMConfig, video_form: str | None = None, most_videos: int = 0
) -> None:
    """Raises UsageError for a model or adapter that an engine would not know, and for videos, up to `most_videos` a
    row, that it would not get; a server answers for its own model."""
    if training.use_vllm and training.vllm_mode == "server" and video_form == "native":
        raise UsageError(
            "--vllm_mode: got server and rows with videos, but a request over HTTP brings no times of their frames; "
            "add --vllm_mode colocate or --video_form frames"
        )
    name, revision = model.model_name_or_path, model.model_revision
    alone = training.use_vllm and training.vllm_lora_sync == "adapter"
    if adapter := adapter_config(name, revision) if training.use_vllm else None:
        if alone:
            refuse_adapter_sync(name, adapter)
        name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    if training.use_vllm and training.vllm_mode == "colocate":
        from open_r1.rollout.vllm.offline import (
            refuse_unknown_model,
            refuse_unknown_videos,
            set_in_process_environment,
        )

        set_in_process_environment()
        options = {"model_impl": training.vllm_model_impl, "trust_remote_code": training.trust_remote_code}
        refuse_unknown_model(name, half=training.bf16 or training.fp16, revision=revision, **options)
        if video_form == "native":
            otherwise = "leave --use_vllm out"
            refuse_unknown_videos("--use_vllm", otherwise, name, most_videos, revision=revision, **options)
        if alone:
            from open_r1.rollout.vllm.adapter_engine import refuse_adapters

            refuse_adapters(name, revision=revision, **options)


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
