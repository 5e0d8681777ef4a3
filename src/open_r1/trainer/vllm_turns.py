"""Rollouts with tools on vLLM: each rank asks for the next turns of its own rows, as many rounds as they need.

The first turn of a group is one request, as without tools; each later turn of a row is one of its own. What ranks have
in common (weights, errors) comes before and after the rounds, so that none waits for another within them.
"""

from collections.abc import Sequence
from functools import partial

from trl.extras.profiling import profiling_context

from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import TurnEnded, TurnRollout
from open_r1.rollout.vllm.turn_requests import next_request, sampled_segments
from open_r1.rollout.vllm.types import EngineLost, Request, Sampling
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.tool_turns import turn_sampler
from open_r1.trainer.vllm_rollout import engine_errors


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
    engine = trainer.engine
    engine.send_weights()
    sampling = engine.greedy_sampling if greedy else engine.sampling
    with profiling_context(trainer, "vLLM.generate"), engine.engine.awake():
        sampler = turn_sampler(trainer, partial(vllm_turn, trainer, sampling))
        return on_all_ranks(lambda: sampler.rollouts(examples, prompts))


def vllm_turn(
    trainer: RolloutTrainer,
    sampling: Sampling,
    rows: Sequence[Row],
    numbers: Sequence[int],
    budgets: Sequence[int],
    tell: TurnEnded,
) -> list[Segment]:
    """The next turn of rows, all in the same round. Raises EngineError and RunStopped, on this rank alone."""
    engine, check_stop = trainer.engine, trainer.signals.raise_if_requested
    requests = turn_requests(trainer, rows, numbers, budgets)
    answers = engine_errors(lambda: engine.engine.generate(requests, sampling, check_stop))
    return sampled_segments(answers)


def turn_requests(
    trainer: RolloutTrainer, rows: Sequence[Row], numbers: Sequence[int], budgets: Sequence[int]
) -> list[Request]:
    """One request a group of first turns, one a row of later ones."""
    engine, tokenizer, step = trainer.engine, trainer.processing_class.tokenizer, trainer._step
    if not any(row.segments for row in rows):
        return engine.requests([row.example for row in rows], step)
    return [
        next_request(engine.request(row.example, 1, engine.label(step), number), row, budget, tokenizer)
        for row, number, budget in zip(rows, numbers, budgets, strict=True)
    ]
