"""Flags of training act on completions with tool turns as on others: noise, resampling, windows that are resumed."""

import pickle
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from helpers.resumed_runs import assert_same, train
from helpers.scripted_tools import Scripted
from helpers.trainers import make_trainer, rows
from PIL import Image

from open_r1.rollout.other_pictures import mean_color
from open_r1.rollout.prompts import RowMedia
from open_r1.rollout.trajectory import Trajectory
from open_r1.trainer.checks import vision_probe
from open_r1.trainer.noisy_rollouts import with_noise
from open_r1.trainer.resampling import arriving_rollouts

TOOLS = ("--tools", "zoom", "--max_completion_length", "100")
GROUP = 4  # of make_trainer


@dataclass(frozen=True)
class Watched(Scripted):
    """Tools that keep what they are asked with."""

    asked: list = field(default_factory=list)

    def answer(self, *row):
        self.asked.append(row[:3])
        return super().answer(*row)


def generation(trainer, *numbers: int) -> dict:
    torch.manual_seed(0)
    trainer.model.train()
    return trainer._generate_and_score_completions(rows(*numbers, group=GROUP))


def as_bytes(pictures: list[Image.Image]) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


def assert_turns_are_of_their_completions(trainer, batch: dict) -> None:
    """What tools put into each completion is what its trajectory makes again."""
    assert any(turns is not None and turns.images for turns in batch["turns"])
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    for row, (turns, trajectory) in enumerate(zip(batch["turns"], batch["trajectories"], strict=True)):
        assert trajectory.ids == batch["completion_ids"][row, : lengths[row]].tolist()
        assert trajectory.scored == batch["tool_mask"][row, : lengths[row]].bool().tolist()
        again = trainer.turns_again(trajectory)
        assert (again is None) == (turns is None)
        if turns is not None:
            assert torch.equal(again.positions, turns.positions) and again.images.keys() == turns.images.keys()
            assert all(torch.equal(value, turns.images[name]) for name, value in again.images.items())


def test_tools_get_the_noisy_picture_where_the_model_saw_it(tiny, mixed, tmp_path):
    noise = ("--noisy_rollouts", "0.5", "--noise_step", "999")
    trainer = make_trainer(tiny, mixed, tmp_path, *TOOLS, *noise)
    trainer.toolbox, trainer.state.max_steps = Watched(), 9
    batch = generation(trainer, 0, 1, 2)
    for row in (0, 2):
        example = trainer.loader.take_beside(rows(row))[0]
        clean, noisy = as_bytes(example.pictures), as_bytes(with_noise(trainer, example, rows(row)[0]).pictures)
        first = [as_bytes(seen)[: len(clean)] for _, seen, record in trainer.toolbox.asked if record == example.record]
        assert clean != noisy and {*map(tuple, first)} == {tuple(clean), tuple(noisy)}
    assert batch["prompts"][0] is batch["prompts"][GROUP - 1]  # learned with the clean picture
    assert_turns_are_of_their_completions(trainer, batch)


@pytest.mark.slow
def test_completions_that_replace_others_bring_their_turns(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *TOOLS, "--resample_zero_variance", "9")

    def every_second(completions, record, **_):
        """A reward that differs within the groups of odd lines alone."""
        odd = [int(row.where.rpartition(":")[2]) % 2 for row in record]
        return [float(i % 2) * pays for i, pays in enumerate(odd)]

    trainer.reward_funcs = [every_second]
    batch = generation(trainer, 0, 1, 2, 3)
    numbers = [row["row"] for row in batch["rows"][::GROUP]]
    assert numbers[0] == 0 and numbers[2] == 2 and {number % 2 for number in numbers} == {0}
    assert_turns_are_of_their_completions(trainer, batch)
    assert len(trainer._metrics["train"]["tools/calls"]) == 1  # of what is kept


def test_turns_of_another_ranks_group_arrive_as_they_were(tiny, mixed, tmp_path, monkeypatch):
    """Two ranks in one process: the second slot is of rank 1, and was sampled by rank 0."""
    trainer = make_trainer(tiny, mixed, tmp_path, *TOOLS)
    batch = trainer.batch = trainer.new_batch(rows(0, 2, group=GROUP))
    trainer._generate([example.conversation for example in batch.examples])
    held = {0: batch.rollouts[:GROUP], 2: batch.rollouts[GROUP:]}
    slots, sent = [SimpleNamespace(row={"row": row}) for row in (0, 2)], []

    def as_rank(rank: int, held: dict) -> dict:
        accelerator = SimpleNamespace(process_index=rank, num_processes=2)
        return arriving_rollouts(
            SimpleNamespace(accelerator=accelerator, turns_again=trainer.turns_again), slots, held
        )

    monkeypatch.setattr("open_r1.trainer.resampling.gather_object", lambda parts: sent.extend(parts) or parts)
    assert as_rank(0, held) == {} and [*sent[0]] == [2]  # what stays is not sent
    monkeypatch.setattr("open_r1.trainer.resampling.gather_object", lambda parts: pickle.loads(pickle.dumps(sent)))
    arrived = as_rank(1, {})
    assert [*arrived] == [2] and any(one.tensors is not None for one in arrived[2])
    for one, before in zip(arrived[2], held[2], strict=True):
        assert one.trajectory.ids == before.trajectory.ids and one.turns[0].text == before.turns[0].text
        if before.tensors is not None:
            for name, value in before.tensors.images.items():
                assert torch.equal(one.tensors.images[name], value)


@pytest.mark.slow
def test_a_run_resumed_inside_a_window_has_its_tool_turns(tiny, few, tmp_path):
    whole = train(tiny, few, tmp_path, "used twice", *TOOLS, "--save_strategy", "steps", "--save_steps", "5")
    saved = torch.load(tmp_path / "checkpoint-5" / "run_state_0.pt")["window"]
    assert any(len(one) > 1 for part in saved for one in part["trajectories"]) and "turns" not in saved[0]
    assert_same(train(tiny, few, tmp_path, "used twice", *TOOLS, checkpoint=tmp_path / "checkpoint-5"), whole)


# --------------------------------------------------------------------------------------------------------------- probe


@pytest.mark.slow
def test_the_dependency_is_that_of_padded_rows_whose_tools_gave_grey_pictures_too(tiny, mixed, tmp_path):
    flags = ("--max_steps", "1", "--gradient_accumulation_steps", "1", "--vision_probe", "1")
    trainer = make_trainer(tiny, mixed, tmp_path, *TOOLS, *flags, "--per_device_train_batch_size", "12")
    batch = generation(trainer, 0, 1, 2)  # one picture, text, two pictures
    grey, lengths = mean_color(trainer.processing_class), batch["completion_mask"].sum(dim=1).tolist()
    shown = [*range(GROUP), *range(2 * GROUP, 3 * GROUP)]

    def blank(trajectory):
        segments = [
            replace(part, pictures=[Image.new("RGB", p.size, grey) for p in part.pictures])
            for part in trajectory.segments
        ]
        return trainer.turns_again(Trajectory(segments))

    examples = trainer.loader.take_beside(rows(0, 2))
    pairs = [(e, RowMedia([Image.new("RGB", p.size, grey) for p in e.pictures], [])) for e in examples]
    greys = [one.prompt for one in trainer.loader.with_media(pairs) for _ in range(GROUP)]

    def logps(prompts, turns) -> torch.Tensor:
        batch_of_rows = (prompts, batch["completion_ids"][shown], [lengths[place] for place in shown])
        with torch.no_grad():
            return trainer.score_completions(trainer.model, *batch_of_rows, turns=turns, shared=False).logps

    own = logps([batch["prompts"][p] for p in shown], [batch["turns"][p] for p in shown])
    hidden = logps(greys, [blank(batch["trajectories"][place]) for place in shown])
    counted = (batch["completion_mask"] * batch["tool_mask"])[shown]
    expected = float(((own - hidden) * counted).sum() / counted.sum())
    assert trainer._metrics["train"]["vision/dependency"] == [pytest.approx(expected, abs=1e-5)]
    assert abs(expected) > 1e-3


def test_greedy_answers_of_the_probe_call_tools_on_the_pictures_that_are_shown(tiny, mixed, tmp_path):
    trainer, graded = make_trainer(tiny, mixed, tmp_path, *TOOLS, "--vision_probe", "1"), []
    trainer.toolbox = Watched()
    trainer.reward_funcs = [lambda completions, **_: graded.extend(completions) or [1.0] * len(completions)]
    trainer.reward_funcs[0].__name__ = "accuracy"
    trainer.model.train()
    trainer.batch = trainer.new_batch(rows(0, 2))
    vision_probe.log_accuracies(trainer, vision_probe.views_of(trainer, trainer.batch.examples))
    assert any(message["role"] == "tool" for messages in graded for message in messages)
    assert {messages[-1]["role"] for messages in graded} == {"assistant"}
    grey = mean_color(trainer.processing_class)
    asked = trainer.toolbox.asked
    blank = [len(seen[0].getcolors(9999) or "many") == 1 and seen[0].getpixel((0, 0)) == grey for _, seen, _ in asked]
    assert any(blank) and not all(blank)


@pytest.mark.slow
def test_a_probe_of_completions_with_tools_changes_nothing_that_is_learned(tiny, few, tmp_path):
    plain, probed = (
        train(tiny, few, tmp_path / name, "longer than a step", *TOOLS, "--max_steps", "2", *flags)
        for name, flags in (("plain", ()), ("probed", ("--vision_probe", "1")))
    )
    expected = dict(plain.model.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in probed.model.named_parameters())
