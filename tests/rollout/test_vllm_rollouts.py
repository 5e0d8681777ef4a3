"""vLLM's rollouts are the policy's: the same prompts, the same log-probs, before and after the weights change."""

import copy
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from helpers.repository import environment_kept
from helpers.scripted_tools import Scripted
from helpers.trainers import make_trainer, rows
from transformers import GenerationConfig

from open_r1.errors import RunEnded
from open_r1.rollout.batching import merge_images, pad_positions, pad_prompts
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.row_in_progress import continued
from open_r1.rollout.tool_turns import tool_turns_of
from open_r1.rollout.turns import TurnRollout
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.toolbox import ToolAnswer
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.lifecycle.preemption import RunStopped
from open_r1.trainer.noisy_rollouts import seen_rows
from open_r1.trainer.transformers_rollout import rollout_with_tools
from open_r1.trainer.vllm_turns import vllm_rollout_with_tools

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm

FLAGS = "--use_vllm true --vllm_max_model_length 256 --gradient_accumulation_steps 1 --max_steps 1"
KINDS = {"one image": (0, 3), "text": (1, 4), "two images of different sizes": (2, 5)}


@pytest.fixture(scope="module")
def trainer(tiny, mixed, tmp_path_factory) -> Iterator[VLMGRPOTrainer]:
    """One engine in this process; text rows, rows of one image, rows of two images of different sizes.

    The engine's rank and port are in the environment, where what later tests start must not find them.
    """
    with environment_kept():
        yield make_trainer(tiny, mixed, tmp_path_factory.mktemp("run"), *FLAGS.split())


@pytest.fixture
def unbanned(trainer, monkeypatch) -> None:
    """Without bans tokens are drawn from the policy's whole distribution, so that nothing but rounding is left."""
    monkeypatch.setattr(trainer.engine, "sampling", replace(trainer.engine.sampling, banned=()))


def differences(trainer: VLMGRPOTrainer, *numbers: int) -> torch.Tensor:
    """|log-prob that vLLM drew a token with - log-prob of the trainer|, of all tokens of a rollout of these rows."""
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows(*numbers, group=4))
    differences = (batch["sampling_per_token_logps"] - batch["old_per_token_logps"]).abs()
    return differences[batch["completion_mask"].bool()]


def examples(trainer: VLMGRPOTrainer, *numbers: int, group: int = 4) -> list:
    trainer.model.train()
    return trainer.loader.take(rows(*numbers, group=group))


@pytest.mark.parametrize("numbers", KINDS.values(), ids=KINDS)
def test_log_probs_are_the_trainers(trainer, numbers):
    assert differences(trainer, *numbers).mean() < 1e-3  # the mass of banned tokens is in it


@pytest.mark.parametrize("numbers", KINDS.values(), ids=KINDS)
def test_without_bans_they_differ_by_rounding(trainer, unbanned, numbers):
    assert differences(trainer, *numbers).max() < 1e-4


def test_rows_with_noise_are_drawn_from_the_noisy_picture(trainer, unbanned, monkeypatch):
    """Log-probs are the trainer's with what each row saw, and are far from those of clean ones."""
    monkeypatch.setattr(trainer.args, "noisy_rollouts", 0.5)
    monkeypatch.setattr(trainer.args, "noise_step", 999)
    monkeypatch.setattr(trainer.state, "max_steps", 10)
    trainer.model.train()
    trainer.batch = batch = trainer.new_batch(rows(0, 1, 2, group=4))
    seen = seen_rows(trainer)
    ids, logps = trainer.engine.rollout(seen.examples, step=0)
    completions = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, ids)), batch_first=True)
    lengths = list(map(len, ids))
    with torch.no_grad():
        for prompts, places, low, high in (
            (seen.prompts, range(12), 0, 1e-4),
            (batch.prompts, seen.noisy, 1e-2, torch.inf),
        ):
            ours = trainer.score_completions(trainer.model, prompts, completions, lengths).logps.tolist()
            gaps = [abs(a - b) for row in places for a, b in zip(logps[row], ours[row], strict=False)]
            assert seen.noisy == [2, 3, 10, 11] and low <= max(gaps) < high


def test_greedy_completions_are_transformers(trainer, monkeypatch):
    greedy = replace(trainer.engine.sampling, temperature=0.0)
    monkeypatch.setattr(trainer.engine, "sampling", greedy)
    rows_of_batch = examples(trainer, 0, 1, 2, 3, 4, 5, group=1)
    completion_ids, _ = trainer.engine.rollout(rows_of_batch, step=0)
    config = trainer.generation_config
    config.do_sample, config.suppress_tokens = False, list(greedy.banned)
    prompts = trainer.prompts_on_device(rows_of_batch)
    trainer.model.eval()
    assert completion_ids == generate_groups(
        trainer.model, trainer.model.base_model, prompts, config, trainer.eos_token_ids
    )


def test_a_prompt_goes_to_the_engine_once_for_its_group(trainer, monkeypatch):
    llm, requests = trainer.engine.engine.llm, []
    plain = llm.enqueue
    monkeypatch.setattr(llm, "enqueue", lambda p, s, **k: requests.extend(zip(p, s, strict=True)) or plain(p, s, **k))
    completion_ids, logps = trainer.engine.rollout(examples(trainer, 0, 2), step=0)
    assert len(completion_ids) == len(logps) == 8
    assert [(params.n, len(p["multi_modal_data"]["image"])) for p, params in requests] == [(4, 1), (4, 2)]


def test_a_rollout_is_broken_off_where_the_run_is_told_to_stop(trainer, monkeypatch):
    engine, steps = trainer.engine.engine.llm.llm_engine, []
    step = engine.step

    def told():
        steps.append(1)
        if len(steps) == 2:
            trainer.signals.received = signal.SIGTERM
        return step()

    monkeypatch.setattr(engine, "step", told)
    with pytest.raises(RunStopped, match="SIGTERM"):
        trainer.engine.rollout(examples(trainer, 0, 2), step=0)
    assert len(steps) == 2 and not engine.has_unfinished_requests()
    trainer.signals.received = None
    assert len(trainer.engine.rollout(examples(trainer, 0, 2), step=0)[0]) == 8


def test_completions_follow_from_seed_step_and_row(trainer):
    first, again = (trainer.engine.rollout(examples(trainer, 0, 1), step=7)[0] for _ in range(2))
    alone = trainer.engine.rollout(examples(trainer, 1), step=7)[0]
    assert first == again and first[4:] == alone
    assert trainer.engine.rollout(examples(trainer, 0, 1), step=8)[0] != first


def test_banned_tokens_are_never_drawn(trainer, monkeypatch):
    completion_ids, _ = trainer.engine.rollout(examples(trainer, 0, 3, group=8), step=0)
    tokens = [token for ids in completion_ids for token in ids]
    common = max(set(tokens), key=tokens.count)
    banned = replace(trainer.engine.sampling, banned=(*trainer.engine.sampling.banned, common))
    monkeypatch.setattr(trainer.engine, "sampling", banned)
    completion_ids, _ = trainer.engine.rollout(examples(trainer, 0, 3, group=8), step=0)
    assert all(common not in ids for ids in completion_ids)


@pytest.mark.parametrize("frozen", [True, False])
def test_images_are_remembered_where_the_vision_tower_is_frozen(trainer, frozen):
    cache = trainer.engine.engine.llm.llm_engine.model_executor.driver_worker.worker.model_runner.encoder_cache
    trainer.engine.rollout(examples(trainer, 0), step=0)
    assert cache
    trainer.engine.engine.sync(frozen, "label")
    assert bool(cache) == frozen


def test_the_weights_of_the_next_step_answer(trainer, unbanned):
    """Every weight moves, those of the eyes too; images and prefixes of the step before are in the caches."""
    originals = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.state.global_step += 1
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))
    moved = differences(trainer, 0, 1, 2)
    assert moved.max() < 1e-4
    with torch.no_grad():
        for parameter, before in zip(trainer.model.parameters(), originals, strict=True):
            parameter.copy_(before)
    assert differences(trainer, 0, 1, 2).max() > 1e-2  # the trainer's own weights are others now: the measure can fail
    trainer.state.global_step += 1
    assert differences(trainer, 0, 1, 2).max() < 1e-4


# ------------------------------------------------------------------------------------------------------- with tools

TOKENS = 120  # of a completion


@pytest.fixture
def with_tools(trainer, unbanned, monkeypatch) -> None:
    """Most turns call `Scripted`."""
    monkeypatch.setattr(trainer.engine, "sampling", replace(trainer.engine.sampling, max_tokens=TOKENS))
    monkeypatch.setattr(trainer, "toolbox", Scripted())
    monkeypatch.setattr(trainer, "max_completion_length", TOKENS)


def test_turns_are_drawn_from_the_policy(trainer, with_tools):
    """Ragged turns, pictures of tools, rows that end early; what tools wrote counts nothing."""
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows(0, 1, 2, group=4))
    sampled = (batch["completion_mask"] * batch["tool_mask"]).bool()
    gaps = (batch["sampling_per_token_logps"] - batch["old_per_token_logps"]).abs()
    assert gaps[sampled].max() < 1e-4
    assert batch["sampling_per_token_logps"][batch["tool_mask"] == 0].isnan().all()
    ratios = batch["importance_sampling_ratio"]
    torch.testing.assert_close(ratios, torch.ones_like(ratios), atol=1e-3, rtol=0)
    pictured = {one is not None and bool(one.images) for one in batch["turns"]}
    assert pictured == {True, False}
    assert trainer._metrics["train"]["sampling/sampling_logp_difference/max"][-1] < 1e-4


def logits_of(trainer: VLMGRPOTrainer, prompt: Prompt, rollout: TurnRollout) -> torch.Tensor:
    """(C, vocabulary) logits of a completion by a pass over the row alone."""
    turns = rollout.tensors or tool_turns_of(rollout.trajectory, trainer.fields, [])
    whole = continued(prompt, rollout.trajectory.ids, turns)
    inputs = pad_prompts([whole], 0) | merge_images([whole], packed=False)
    with torch.no_grad():
        logits = trainer.model(**inputs, position_ids=pad_positions([whole])).logits[0]
    return logits[len(prompt.ids) - 1 : -1]


def test_what_bans_leave_is_drawn_from_in_every_turn(trainer, with_tools, monkeypatch):
    """Where log-probs are not the policy's, that is the mass of the tokens that may not be drawn: here of digits."""
    banned = trainer.processing_class.tokenizer.convert_tokens_to_ids(list("02468"))
    monkeypatch.setattr(trainer.engine, "sampling", replace(trainer.engine.sampling, banned=banned))
    rows_of_batch = examples(trainer, 0, 1, 2)
    prompts, gaps = trainer.prompts_on_device(rows_of_batch), []
    for prompt, rollout in zip(prompts, vllm_rollout_with_tools(trainer, rows_of_batch, prompts), strict=True):
        logits, ids = logits_of(trainer, prompt, rollout), torch.tensor(rollout.trajectory.ids)[:, None]
        left = logits.index_fill(1, torch.tensor(banned), -torch.inf)
        drawn = torch.tensor(rollout.trajectory.logps)[:, None]
        both = [(drawn - each.log_softmax(dim=1).gather(1, ids)).abs() for each in (logits, left)]
        gaps.append(torch.cat(both, dim=1)[rollout.trajectory.scored])
    of_policy, of_left = torch.cat(gaps).amax(dim=0).tolist()
    assert of_left < 1e-4 and of_policy > 0.1


class Slow(Scripted):
    """Tools of which some take longer than others."""

    def answer(self, calls: Sequence[ToolCall], *more: object) -> tuple[ToolAnswer, ...]:
        time.sleep(calls[0].arguments["number"] % 3 / 10)
        return super().answer(calls, *more)


def test_a_row_goes_on_while_others_are_sampled_and_says_what_it_says_without(trainer, with_tools, monkeypatch):
    engine, busy = trainer.engine.engine.llm, []
    enqueue, rows_of_batch = engine.enqueue, examples(trainer, 0, 1, 2)
    monkeypatch.setattr(
        engine, "enqueue", lambda *a, **k: busy.append(engine.llm_engine.has_unfinished_requests()) or enqueue(*a, **k)
    )
    prompts, said = trainer.prompts_on_device(rows_of_batch), []
    for toolbox in (Scripted(), Slow()):
        monkeypatch.setattr(trainer, "toolbox", toolbox)
        busy.clear()
        rollouts = vllm_rollout_with_tools(trainer, rows_of_batch, prompts)
        said.append([[segment.ids for segment in one.trajectory.segments] for one in rollouts])
        assert any(busy)
    assert said[0] == said[1] and len({str(one) for one in said[0]}) > len(said[0]) / 2


def test_a_tools_fault_ends_a_rollout_and_leaves_the_engine_nothing_to_do(trainer, with_tools, monkeypatch):
    def fail(self: Scripted, *_: object) -> None:
        raise RunEnded("a.jsonl:3: tool look: look failed")

    monkeypatch.setattr(Scripted, "answer", fail)
    rows_of_batch, engine = examples(trainer, 0, 1, 2), trainer.engine.engine.llm.llm_engine
    with pytest.raises(RunEnded, match="look failed"):
        vllm_rollout_with_tools(trainer, rows_of_batch, trainer.prompts_on_device(rows_of_batch))
    assert not engine.has_unfinished_requests()


def test_an_engine_that_sleeps_is_awake_until_the_last_turn(trainer, with_tools, monkeypatch):
    engine, told = trainer.engine.engine, []
    monkeypatch.setattr(engine, "sleeps", True)
    monkeypatch.setattr(engine, "asleep", False)
    monkeypatch.setattr(engine.llm, "sleep", lambda level: told.append("sleep"))
    enqueue = engine.llm.enqueue
    monkeypatch.setattr(engine.llm, "enqueue", lambda *args, **k: told.append("turn") or enqueue(*args, **k))
    rows_of_batch = examples(trainer, 0)
    vllm_rollout_with_tools(trainer, rows_of_batch, trainer.prompts_on_device(rows_of_batch))
    assert told == ["turn"] * (len(told) - 1) + ["sleep"] and len(told) > 2 and engine.stale


def greedy_config(config: GenerationConfig, tokens: int) -> GenerationConfig:
    config = copy.deepcopy(config)
    config.do_sample, config.max_new_tokens, config.suppress_tokens = False, tokens, None
    return config


def test_greedy_turns_are_transformers(trainer, with_tools, monkeypatch):
    """Also their answers, pictures and limits; each later turn is one request, whose beginning is not read again."""
    engine, cached = trainer.engine.engine.llm.llm_engine, {}
    step = engine.step

    def watched():
        outputs = step()
        cached.update({one.request_id: one.num_cached_tokens for one in outputs})
        return outputs

    monkeypatch.setattr(engine, "step", watched)
    examples_of_batch = examples(trainer, 0, 1, 2, 3, 4, 5, group=1)
    prompts = trainer.prompts_on_device(examples_of_batch)
    ours = vllm_rollout_with_tools(trainer, examples_of_batch, prompts, greedy=True)
    monkeypatch.setattr(trainer, "generation_config", greedy_config(trainer.generation_config, TOKENS))
    monkeypatch.setattr(trainer, "engine", None)
    monkeypatch.setattr(trainer, "agreement_checked", True)  # its batch is another
    trainer.model.eval()
    theirs = rollout_with_tools(trainer, examples_of_batch, prompts)
    assert [one.trajectory.ids for one in ours] == [one.trajectory.ids for one in theirs]
    assert [one.turns for one in ours] == [one.turns for one in theirs]
    assert [one.limit for one in ours] == [one.limit for one in theirs]
    asked = sum(len(one.trajectory.segments) // 2 + 1 for one in ours)
    later = list(cached.values())[len(ours) :]
    assert len(cached) == asked > len(ours) and max(later) >= 128  # a block of vLLM's cache on a CPU
