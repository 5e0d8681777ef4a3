"""One step ahead: the next completions are made while the policy learns, by its weights of before; resume is exact."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers.resumed_runs import assert_same
from helpers.trainers import make_trainer
from transformers import TrainerCallback

from open_r1.config import vllm_flags
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.vllm_flags import check_rollout_ahead
from open_r1.rollout.vllm.types import EngineError, EngineLost, Request, SampledCompletion, Sampling
from open_r1.trainer import vllm_rollout
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.lifecycle.preemption import RunStopped

FLAGS = "--use_vllm true --vllm_mode server --gradient_accumulation_steps 1 --max_steps 4 --beta 0 --logging_steps 1"
AHEAD = f"{FLAGS} --rollout_ahead 1"


@dataclass
class Generation:
    """What an engine was asked for: with the weights of which step, when, and of which rows."""

    step: int
    began: float
    ended: float
    places: list[str]


class SlowServer:
    """An engine of another process, in `seconds`: tokens follow from a request's seed and the weights that it has."""

    seconds, lost = 0.0, False

    def __init__(self, model: torch.nn.Module, *_: Any):
        self.model, self.stale, self.generations = model, True, []

    def connect(self) -> None:
        self.stale = True

    def sync(self, frozen_vision: bool, label: str) -> None:
        self.step, self.stale = int(label.rpartition("/")[2]), False
        self.weights = int(1e6 * sum(p.double().abs().sum() for p in self.model.parameters()).item())

    def generate(
        self, requests: list[Request], sampling: Sampling, check_stop: Callable[[], None]
    ) -> list[list[SampledCompletion]]:
        began, step, weights = time.monotonic(), self.step, self.weights
        end = began + self.seconds
        while time.monotonic() < end:
            check_stop()
            time.sleep(0.01)
        places = [request.where for request in requests]
        self.generations.append(Generation(step, began, time.monotonic(), places))
        return [[completion(request.seed + i, weights) for i in range(request.n)] for request in requests]


def completion(seed: int, weights: int) -> SampledCompletion:
    """Six tokens; vLLM has no log-probs of them, which TRL takes for those of the policy."""
    generator = torch.Generator().manual_seed(seed + weights)
    return SampledCompletion(torch.randint(100, 400, (6,), generator=generator).tolist(), [float("nan")] * 6)


class Learned(TrainerCallback):
    """When each step had been learned, at least `seconds` after its completions had come."""

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.ends = seconds, []

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(self.seconds)
        self.ends.append(time.monotonic())


@pytest.fixture
def run(tiny, digits, tmp_path, monkeypatch) -> Callable[..., Any]:
    """Makes a trainer whose vLLM server is a SlowServer."""
    monkeypatch.setattr(vllm_flags, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm_rollout, "engine_class", lambda mode, videos: SlowServer)

    def make(flags: str, out: str = "run") -> Any:
        return make_trainer(tiny, digits / "train.jsonl", tmp_path / out, *flags.split())

    return make


@pytest.mark.slow
def test_the_next_completions_are_made_while_the_policy_learns(run):
    trainer, learned = run(AHEAD), Learned(1.5)
    trainer.engine.engine.seconds = 1.5
    trainer.add_callback(learned)
    trainer.train()
    made = trainer.engine.engine.generations
    assert [one.step for one in made] == [0, 0, 1, 2]  # the first at once; then those of the weights of before
    assert all(one.began < end for one, end in zip(made[1:], learned.ends, strict=False))
    generating = sum(one.ended - one.began for one in made[1:])
    waiting = sum(max(0.0, one.ended - end) for one, end in zip(made[1:], learned.ends, strict=False))
    assert waiting < 0.8 * generating  # so steps take less than the sum, which they take without it


class Meeting(TrainerCallback):
    """Another process that generates, and meets the policy at each of its optimizer steps but the last."""

    def __init__(self, trainer: Any, seconds: float):
        self.processes, self.server, self.steps = multiprocessing.get_context("spawn"), trainer.engine.engine, 0
        self.meeting, self.seconds, self.generate = self.processes.Barrier(2), seconds, self.server.generate
        self.server.generate = self.generate_elsewhere
        trainer.add_callback(self)

    def generate_elsewhere(self, *request: Any) -> list[list[SampledCompletion]]:
        if self.server.generations:  # the first is made before anything is learned
            process = self.processes.Process(target=self.meeting.wait, args=(self.seconds,))
            process.start()
            process.join()
        return self.generate(*request)

    def on_pre_optimizer_step(self, args: Any, *_: Any, **__: Any) -> None:
        self.steps += 1
        if self.steps < args.max_steps:
            self.meeting.wait(self.seconds)


@pytest.mark.slow
def test_another_process_generates_while_this_one_learns(run):
    """Neither goes on alone: a generation ends once an optimizer step has begun, and that step once it generates."""
    trainer = run(AHEAD)
    Meeting(trainer, 120)
    trainer.train()
    assert trainer.state.global_step == trainer.args.max_steps == len(trainer.engine.engine.generations)
    waiting = run(FLAGS, "waiting")
    Meeting(waiting, 1)
    with pytest.raises(threading.BrokenBarrierError):
        waiting.train()


@pytest.mark.slow
def test_without_it_each_step_waits(run):
    trainer, learned = run(FLAGS), Learned()
    trainer.add_callback(learned)
    trainer.train()
    made = trainer.engine.engine.generations
    assert [one.step for one in made] == [0, 1, 2, 3]
    assert all(one.began > end for one, end in zip(made[1:], learned.ends, strict=False))
    ahead = run(AHEAD, "ahead")
    ahead.train()
    assert [one.places for one in ahead.engine.engine.generations] == [one.places for one in made]


@pytest.mark.slow
def test_a_resumed_run_learns_from_the_completions_that_were_made_ahead(run, tmp_path):
    """They are in the checkpoint: the weights that made them are gone."""
    saving = f"{AHEAD} --save_strategy steps --save_steps 1"
    undisturbed = run(saving)
    undisturbed.train()
    for step in (1, 3):
        resumed = run(saving, f"resumed{step}")
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        assert_same(resumed, undisturbed)
    assert resumed.engine.engine.generations == []  # of the last step


@pytest.mark.slow
def test_a_stop_signal_leaves_a_checkpoint_with_what_was_begun(run, tmp_path):
    """It comes while the policy waits for completions of before the step that it has just finished."""
    undisturbed = run(AHEAD)
    undisturbed.train()
    stopped = run(AHEAD, "stopped")
    wait = stopped.engine.wait_for

    def told(begun: Any) -> Any:
        if stopped.state.global_step == 2:
            stopped.signals.received = signal.SIGTERM
        return wait(begun)

    stopped.engine.wait_for, stopped.engine.engine.seconds = told, 0.5
    with pytest.raises(RunStopped):
        stopped.train()
    checkpoint = save_checkpoint_now(stopped)
    assert checkpoint == tmp_path / "stopped" / "checkpoint-2"
    resumed = run(AHEAD, "resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert_same(resumed, undisturbed)


@pytest.mark.slow
def test_an_evaluation_waits_for_what_is_generated_with_the_weights_of_before(run):
    trainer = run(f"{AHEAD} --eval_strategy steps --eval_steps 2 --per_device_eval_batch_size 4")
    trainer.engine.engine.seconds = 0.2
    trainer.train()
    made = trainer.engine.engine.generations
    assert [one.step for one in made][:3] == [0, 0, 1] and {one.step for one in made[3:]} == {2, 4}
    assert all(one.ended <= later.began for one, later in pairwise(made))


@pytest.mark.slow
def test_a_lost_server_is_met_again_and_samples_with_the_weights_that_are(run):
    trainer = run(AHEAD)
    engine = trainer.engine.engine
    generate = engine.generate

    def lost_once(*args: Any) -> Any:
        if len(engine.generations) == 2 and not engine.lost:
            engine.lost = True
            raise EngineLost("gone")
        return generate(*args)

    engine.generate = lost_once
    trainer.train()
    assert [one.step for one in engine.generations] == [0, 0, 2, 2]


@pytest.mark.slow
def test_a_policy_that_moves_too_far_in_a_step_ends_the_run(run):
    rollouts = run(AHEAD).engine
    metrics = {"sampling/sampling_logp_difference/mean": [0.6]}
    with pytest.raises(EngineError, match="--use_vllm: vLLM drew tokens whose log-probs differ"):
        rollouts.check(metrics)  # of another model
    rollouts.one_step_old = True
    rollouts.check(metrics)
    with pytest.raises(EngineError, match=r"--rollout_ahead: the step moved the log-probs .* by 1\.20 on average"):
        rollouts.check({"sampling/sampling_logp_difference/mean": [1.2]})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"vllm_mode": "colocate"}, "--rollout_ahead: got 1 with --vllm_mode colocate, whose engine shares"),
        ({"vllm_importance_sampling_correction": False}, "without --vllm_importance_sampling_correction"),
        ({"dataloader_num_workers": 2}, "--dataloader_num_workers: got both"),
        ({"num_iterations": 2}, "--rollout_ahead: got 1, expected one generation a step"),
        ({"steps_per_generation": 4}, "--rollout_ahead: got 1, expected one generation a step"),
    ],
)
def test_where_it_cannot_overlap_it_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        check_rollout_ahead(GRPOArguments(output_dir="o", **{"rollout_ahead": 1, "vllm_mode": "server", **flags}))
