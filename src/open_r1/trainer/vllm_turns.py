"""Rollouts with tools on vLLM: each rank asks for the turns of its own rows.

Each turn of a row is a request of its own, and a row whose tools have answered goes on while others are sampled. What
ranks have in common (weights, errors) comes before and after, so that none waits for another within. Ranks that share
an engine (tensor parallel) sample turns in rounds, as each must give it the same requests.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from trl.extras.profiling import profiling_context

from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.turns import OpenTurns, Sample, TurnRollout, by_itself
from open_r1.rollout.vllm.turn_requests import TurnRequests
from open_r1.rollout.vllm.types import EngineLost, Request, Sampling
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.tool_turns import ranks_in_step, turn_sampler


def vllm_rollout_with_tools(
    trainer: RolloutTrainer, examples: Sequence[Example], prompts: Sequence[Prompt], greedy: bool = False
) -> list[TurnRollout]:
    """One completion a row, with the policy's weights in the engine; rows of a group hold the same Example and Prompt.

    All ranks call it. Raises EngineError, on all ranks, for an engine that is lost or that reads turns differently;
    RunStopped; and what a tool's fault raises.
    """
    begin = partial(rollouts_of_ranks, trainer, examples, prompts, greedy)
    try:
        return begin()
    except EngineLost as error:
        trainer.engine.meet_again(error)
        return begin()


def rollouts_of_ranks(
    trainer: RolloutTrainer, examples: Sequence[Example], prompts: Sequence[Prompt], greedy: bool
) -> list[TurnRollout]:
    """The rollouts of this rank's rows, by an engine that has the policy's weights. Raises EngineLost."""
    engine, places = trainer.engine, places_in_groups(examples)
    engine.send_weights()
    sampling = engine.greedy_sampling if greedy else engine.sampling
    sample, in_step = partial(sample_turns, trainer, sampling, places), by_itself
    if trainer.args.vllm_tensor_parallel_size > 1:
        sample, in_step = partial(sample_in_step, sample), ranks_in_step
    with profiling_context(trainer, "vLLM.generate"), engine.engine.awake():
        sampler = turn_sampler(trainer, sample, in_step)
        return on_all_ranks(lambda: sampler.rollouts(examples, prompts))


def sample_turns(trainer: RolloutTrainer, sampling: Sampling, places: Sequence[int], turns: OpenTurns) -> None:
    """A `Sample` by the run's engine; `places` are those of all rows in their groups. Raises EngineError, RunStopped,
    and what a tool's fault raises, on this rank alone."""
    engine, tokenizer, label = trainer.engine, trainer.processing_class.tokenizer, trainer.engine.label(trainer._step)

    def request(row: Row, number: int) -> Request:
        return engine.request(row.example, 1, label, places[number])

    source = TurnRequests(turns, request, tokenizer)
    engine.engine.answer(source, sampling, trainer.signals.raise_if_requested)


def sample_in_step(sample: Sample, turns: OpenTurns) -> None:
    """A `Sample` whose ranks share engines: they sample their next turns together, and all raise what one raises."""
    on_all_ranks(lambda: sample(turns))


def places_in_groups(examples: Sequence[Example]) -> list[int]:
    """How many rows before each, within the batch, are of the same record.

    >>> from types import SimpleNamespace
    >>> one, other = object(), object()
    >>> places_in_groups([SimpleNamespace(record=record) for record in (one, one, other, one)])
    [0, 1, 0, 2]
    """
    before: Counter[int] = Counter()
    places = []
    for example in examples:
        places.append(before[id(example.record)])
        before[id(example.record)] += 1
    return places
