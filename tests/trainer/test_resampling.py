"""Groups without spread are replaced by whole groups of other rows; what they were is counted; resume is exact."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import trainers
from helpers.resumed_runs import SMALL, WINDOWS, assert_same, train
from helpers.trainers import make_trainer, rows

from open_r1.config import vllm_flags
from open_r1.config.row_flags import check_row_choice
from open_r1.config.training_arguments import GRPOArguments
from open_r1.rollout.prompt_loader import unique_keys
from open_r1.rollout.vllm.types import Request, SampledCompletion, Sampling
from open_r1.trainer import vllm_rollout
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.resampling import spreads

GROUP = 4  # of make_trainer
BOTH = ["--resample_zero_variance", "3", "--row_sampling", "difficulty"]
NAN = float("nan")


def parity(completions, **_):
    """A reward that about a quarter of the groups have no spread of."""
    return [float(len(completion[0]["content"]) % 2) for completion in completions]


def line_of(record: Any) -> int:
    return int(record.where.rpartition(":")[2])


def pays_every_third(completions, record, log_extra, **_):
    """A reward that differs within the groups of lines 1, 4, 7, ... alone, and logs a column."""
    log_extra("line", [line_of(row) for row in record])
    return [float(i % 2) if line_of(row) % 3 == 1 else 0.0 for i, row in enumerate(record)]


def pays_nothing(completions, **_):
    return [0.0] * len(completions)


def generation(trainer, *numbers: int) -> dict[str, Any]:
    """The scored batch of groups of these rows."""
    torch.manual_seed(0)
    trainer.model.train()
    return trainer._generate_and_score_completions(rows(*numbers, group=GROUP))


def newest(trainer, name: str) -> float:
    return trainer._metrics["train"][name][-1]


@pytest.fixture
def trainer(tiny, mixed, tmp_path):
    return make_trainer(tiny, mixed, tmp_path, "--resample_zero_variance", "20")


@pytest.mark.parametrize(
    ("rewards", "summed", "alone"),
    [
        ([[0.0, 1.0], [0.0, 1.0]], False, False),
        ([[0.0, 1.0], [1.0, 1.0]], True, True),
        ([[0.0, 1.0], [1.0, 0.0]], False, True),  # the sums are equal
        ([[0.3, NAN], [0.3, NAN]], False, False),  # a reward that does not apply
        ([[NAN, NAN], [0.5, 0.0]], False, False),  # one completion that nothing scores
        ([[0.1 + 0.2, 0.0], [0.3, 0.0]], False, False),  # rounding is no spread
        ([[0.0, 0.0], [0.0, 5.0]], False, False),  # the second weighs nothing
    ],
)
def test_spread_is_what_advantages_come_from(rewards, summed, alone):
    weights = torch.tensor([1.0, 1.0 if rewards[-1][1] != 5.0 else 0.0])
    group = SimpleNamespace(rewards=torch.tensor(rewards))
    for aggregation, spread in (("sum_then_normalize", summed), ("normalize_then_sum", alone)):
        args = SimpleNamespace(multi_objective_aggregation=aggregation)
        assert spreads(SimpleNamespace(args=args, reward_weights=weights), group) == spread


def test_groups_without_spread_become_whole_groups_of_other_rows(trainer):
    trainer.reward_funcs = [pays_every_third]
    for numbers in ((0, 1, 2, 6, 7), (40, 41, 42)):  # as a data loader does: this batch, and the next one
        ahead = trainer.loader.prefetch(rows(*numbers, group=GROUP))
    batch = generation(trainer, 0, 1, 2, 6, 7)  # lines 1 and 7 have spread, and stay in their places
    lines = [row["row"] + 1 for row in batch["rows"]]
    groups = [lines[i : i + GROUP] for i in range(0, len(lines), GROUP)]
    assert [set(group) for group in groups] == [{group[0]} for group in groups]
    assert len(set(lines)) == 5 and {line % 3 for line in lines} == {1} and lines[0] == 1 and lines[3 * GROUP] == 7
    assert batch["advantages"].view(-1, GROUP).std(dim=1).min() > 0.5
    examples = trainer.loader.take_beside(batch["rows"])
    for example, prompt, ids in zip(examples, batch["prompts"], batch["prompt_ids"], strict=True):
        own = example.prompt.ids
        assert torch.equal(prompt.ids, own) and torch.equal(ids[-len(own) :], own)
    assert list(trainer._logs["extra"]["line"]) == lines
    sampled, discarded = newest(trainer, "rollouts/sampled"), newest(trainer, "rollouts/discarded")
    assert sampled - discarded == len(lines) and discarded >= 3 * GROUP and sampled % GROUP == 0
    assert newest(trainer, "rollouts/without_spread") == (sampled / GROUP - 5) / (sampled / GROUP)
    assert newest(trainer, "rollouts/reward") < newest(trainer, "reward") == 0.5
    assert newest(trainer, "frac_reward_zero_std") == 0.0
    tokens = batch["completion_mask"].sum().item() + batch["prompt_mask"].sum().item()
    assert trainer.state.num_input_tokens_seen > tokens * sampled / len(lines) / 2
    assert unique_keys(ahead) in trainer.loader.batches  # neither dropped nor begun again


def test_the_items_of_the_loss_are_those_of_the_groups_kept(trainer):
    trainer.reward_funcs = [pays_every_third]
    batch = generation(trainer, 0, 1)
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    assert newest(trainer, "completions/mean_length") == pytest.approx(batch["completion_mask"].sum().item() / 8)


def test_what_no_row_can_replace_stays(trainer):
    trainer.reward_funcs, trainer.args.resample_zero_variance = [pays_nothing], 2
    batch = generation(trainer, 5, 6, 7)
    assert [row["row"] for row in batch["rows"][::GROUP]] == [5, 6, 7] and not batch["advantages"].any()
    assert newest(trainer, "rollouts/sampled") == 3 * 3 * GROUP
    trainer.args.resample_zero_variance, trainer.row_choice.rows = 1000, 8  # of eight rows
    generation(trainer, 5, 6, 7)
    assert newest(trainer, "rollouts/sampled") == 8 * GROUP  # each once


def test_an_evaluation_and_a_step_with_spread_sample_once(trainer, monkeypatch):
    trainer.reward_funcs = [pays_every_third]
    calls, plain = [], trainer._generate_single_turn
    monkeypatch.setattr(trainer, "_generate_single_turn", lambda *a: calls.append(trainer.batch.sampled) or plain(*a))
    generation(trainer, 0, 3)
    assert [sampled is None for sampled in calls] == [True, False]  # then TRL asks for what is there
    calls.clear()
    trainer.model.eval()
    trainer._generate_and_score_completions([{"split": "eval", "row": 3}] * GROUP)
    assert [sampled is None for sampled in calls] == [True]


# ---------------------------------------------------------------------------------------------------------------- vLLM


class Engine:
    """An engine whose completion and log-probs follow from the request's seed; it keeps what it was asked for."""

    def __init__(self, *_: Any):
        self.stale, self.calls, self.syncs = True, [], 0

    def sync(self, *_: Any) -> None:
        self.stale, self.syncs = False, self.syncs + 1

    def generate(self, requests: list[Request], sampling: Sampling, check_stop: Any) -> list[list[SampledCompletion]]:
        self.calls.append([request.where for request in requests])
        return [[self.completion(request.seed + i) for i in range(request.n)] for request in requests]

    @staticmethod
    def completion(seed: int) -> SampledCompletion:
        first = 100 + seed % 300
        return SampledCompletion([first, 120, 130], [-first / 100, NAN, NAN])


def test_an_engine_is_asked_for_what_is_lacking_alone_and_its_log_probs_go_with_the_rows(
    tiny, mixed, tmp_path, monkeypatch
):
    monkeypatch.setattr(vllm_flags, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm_rollout, "engine_class", lambda mode, videos: Engine)
    flags = "--use_vllm true --vllm_mode server --resample_zero_variance 20"
    trainer = make_trainer(tiny, mixed, tmp_path, *flags.split())
    trainer.reward_funcs = [pays_every_third]
    monkeypatch.setattr(trainer.engine, "check", lambda metrics: None)  # these are no log-probs of a model
    batch = generation(trainer, 0, 1, 2)
    calls, lines = trainer.engine.engine.calls, {row["row"] + 1 for row in batch["rows"]}
    assert (
        {line % 3 for line in lines} == {1} and len(calls[0]) == len(lines) == 3 and trainer.engine.engine.syncs == 1
    )
    assert all(1 <= len(call) <= 2 for call in calls[1:])
    asked = [place for call in calls for place in call]
    assert len(set(asked)) == len(asked)
    expected = batch["completion_ids"][:, 0] / -100
    torch.testing.assert_close(batch["sampling_per_token_logps"][:, 0], expected)


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.fixture
def run(tiny, few, tmp_path, monkeypatch):
    """Trains with both options on four rows, two of them in a generation."""
    monkeypatch.setattr(trainers, "count_characters", parity)

    def train_in(out: str, window: str, *flags: str, checkpoint=None):
        return train(tiny, few, tmp_path / out, window, *BOTH, *flags, checkpoint=checkpoint)

    return train_in


@pytest.mark.slow
def test_a_resumed_run_with_both_options_ends_as_the_undisturbed_one(run, tmp_path):
    short = ("across steps", "--num_train_epochs", "1")  # three steps
    undisturbed = run("a", *short, "--save_strategy", "steps", "--save_steps", "2")
    assert max(line.get("rollouts/discarded", 0) for line in undisturbed.state.log_history) > 0
    resumed = run("b", *short, checkpoint=tmp_path / "a" / "checkpoint-2")
    assert_same(resumed, undisturbed)
    ours, theirs = (one.row_choice.difficulty.saved() for one in (resumed, undisturbed))
    assert torch.equal(ours["counts"], theirs["counts"]) and torch.equal(ours["visits"], theirs["visits"])


@pytest.mark.slow
@pytest.mark.parametrize("window", ["longer than a step", "used twice"])
def test_from_inside_and_between_windows_with_both_options(run, tmp_path, window):
    undisturbed = run("a", window, "--save_strategy", "steps", "--save_steps", "1")
    for step in (1, undisturbed.state.max_steps - 2):
        assert_same(run("b", window, checkpoint=tmp_path / "a" / f"checkpoint-{step}"), undisturbed)


@pytest.mark.slow
def test_a_generation_that_dies_between_its_rounds_is_taken_back(run, tiny, few, tmp_path):
    undisturbed = run("a", "across steps")
    flags = [*SMALL.split(), *WINDOWS["across steps"].split(), *BOTH]
    broken = make_trainer(tiny, few, tmp_path / "b", *flags)
    sample, calls = broken._generate_single_turn, defaultdict(int)

    def die(*args, **kwargs):
        at = broken.state.global_step
        calls[at] += broken.batch.sampled is None
        if at >= 3 and calls[at] == 2:  # what the first round learned of rows is taken back
            raise ConnectionError("the server is gone")
        return sample(*args, **kwargs)

    broken._generate_single_turn = die
    with pytest.raises(ConnectionError):
        broken.train()
    assert broken.row_choice.difficulty.undone
    assert_same(run("b", "across steps", checkpoint=save_checkpoint_now(broken)), undisturbed)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"resample_zero_variance": -1}, "--resample_zero_variance: got -1, expected a number of times"),
        ({"resample_zero_variance": 2, "rollout_ahead": 1}, "got 1 with --resample_zero_variance, which chooses rows"),
        ({"row_sampling": "difficulty", "rollout_ahead": 1}, "got 1 with --row_sampling difficulty, which chooses"),
        ({"row_sampling": "difficulty", "shuffle_dataset": False}, "--shuffle_dataset: got false with --row_sampling"),
    ],
)
def test_what_cannot_act_together_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        check_row_choice(GRPOArguments(output_dir="o", **flags))
