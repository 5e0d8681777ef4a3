"""A training step over completions with tool turns: packed, padded and in parts alike; tools' tokens count nowhere."""

import dataclasses
import math
from collections import defaultdict

import pytest
import torch
from helpers.trainers import batch_of, loss_and_gradients, make_trainer, take_gradients
from PIL import Image

from open_r1.rollout.tool_turns import tool_turns_of
from open_r1.rollout.trajectory import Segment, Trajectory
from open_r1.trainer.forward.perception import masked_pictures, score_masked, token_kl
from open_r1.trainer.generation_batch import LossRows

# of twelve rows, the first four of one picture, then four of text, then four of two pictures: sampled tokens, pictures
# of an answer, sampled tokens, ...
PLANS = [(5,), (3, 1, 2), (4,), (2, 2, 3, 0, 1), (3,), (2, 1, 2), (1,), (4,), (1, 0, 1), (6,), (2, 1, 1), (3,)]


@pytest.fixture(scope="module")
def trainer(tiny, mixed, tmp_path_factory):
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp("turns"), "--beta", "0.04")


def answered(trainer, pictures: int) -> dict[str, torch.Tensor]:
    """What the processor makes of a tool's answer."""
    shown = [Image.new("RGB", (56 + 28 * number, 56), (90, 20 * number, 200)) for number in range(pictures)]
    parts = [{"type": "image"}] * pictures + [{"type": "text", "text": "seen"}]
    text = trainer.processing_class.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )
    given = {"images": [shown]} if shown else {}
    made = trainer.processing_class(text=[text], add_special_tokens=False, return_tensors="pt", **given)
    return dict(made)


def trajectory_of(trainer, plan: tuple[int, ...], words: torch.Tensor) -> tuple[Trajectory, list[dict]]:
    made = [answered(trainer, pictures) for pictures in plan[1::2]]
    said = iter(words.split([*plan[::2], len(words) - sum(plan[::2])]))
    answers = iter(made)
    segments = [
        Segment(next(answers)["input_ids"][0].tolist() if place % 2 else next(said).tolist(), place % 2 == 0)
        for place in range(len(plan))
    ]
    return Trajectory(segments), made


@pytest.fixture(scope="module")
def batch(trainer):
    """Sampled prompts with completions of PLANS, off-policy by a little."""
    batch, random = batch_of(trainer, 0, 1, 2), torch.Generator().manual_seed(0)
    vocabulary = batch["prompt_ids"][batch["prompt_mask"] == 1]
    words = vocabulary[~torch.isin(vocabulary, torch.tensor(trainer.banned_ids))]
    drawn = [trajectory_of(trainer, plan, words[torch.randint(len(words), (20,), generator=random)]) for plan in PLANS]
    ids, scored, mask = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(row).long() for row in rows], batch_first=True)
        for rows in zip(*((t.ids, t.scored, [1] * len(t.ids)) for t, _ in drawn), strict=True)
    )
    noise = 0.1 * torch.randn(ids.shape, generator=random)
    return batch | {
        "turns": [tool_turns_of(t, trainer.fields, made) if made else None for t, made in drawn],
        "completion_ids": ids,
        "completion_mask": mask,
        "tool_mask": scored,
        "num_items_in_batch": scored.sum(),
        "ref_per_token_logps": noise - 2,
        "old_per_token_logps": noise - 2.1,
    }


def computed(trainer, batch) -> tuple[torch.Tensor, dict, dict]:
    """(loss, gradients, metrics)."""
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    loss, gradients = loss_and_gradients(trainer, batch)
    return loss, gradients, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def assert_same(one, other) -> None:
    torch.testing.assert_close(one[0], other[0], atol=1e-6, rtol=1e-6)
    assert one[1].keys() == other[1].keys() and one[2] == pytest.approx(other[2], abs=1e-5, nan_ok=True)
    for name, gradient in one[1].items():
        torch.testing.assert_close(other[1][name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_loss_over_turns_is_that_of_padded_rows_and_of_parts(trainer, batch, monkeypatch):
    whole = computed(trainer, batch)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole[1].values())
    monkeypatch.setattr(trainer.args, "tokens_per_forward", 250)
    assert_same(whole, computed(trainer, batch))
    monkeypatch.setattr(trainer.args, "tokens_per_forward", None)
    off = {**trainer.optimizations.off, "shared_prefix": "compared"}
    monkeypatch.setattr(trainer, "optimizations", dataclasses.replace(trainer.optimizations, off=off))
    assert_same(whole, computed(trainer, batch))


def test_tokens_of_tools_have_no_part_in_loss_and_entropy(trainer, batch, monkeypatch):
    monkeypatch.setattr(trainer, "beta", 0.0)
    signal = [0.0 if row in (1, 5, 9) else advantage for row, advantage in enumerate(batch["advantages"].tolist())]
    off = {**trainer.optimizations.off, "skip_zero_advantages": None}
    monkeypatch.setattr(trainer, "optimizations", dataclasses.replace(trainer.optimizations, off=off))
    given = batch | {"advantages": torch.tensor(signal)}
    loss, _, metrics = computed(trainer, given)
    noisy = batch["old_per_token_logps"] + (1 - batch["tool_mask"])  # where tools' tokens stand
    assert torch.equal(loss, computed(trainer, given | {"old_per_token_logps": noisy})[0])
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    with torch.no_grad():
        options = {"entropy": True, "turns": batch["turns"]}
        scores = trainer.score_in_parts(trainer.model, batch["prompts"], batch["completion_ids"], lengths, **options)
    kept = batch["tool_mask"].bool() & torch.tensor([s != 0 for s in signal])[:, None]
    assert metrics["entropy"] == pytest.approx(scores.entropies[kept].mean().item(), abs=1e-5)


def test_pictures_of_tools_are_masked_where_looking_is_rewarded(trainer, batch, monkeypatch):
    monkeypatch.setattr(trainer, "black_pixels", {"pixel_values": torch.full((1176,), -1.5)})
    monkeypatch.setattr(trainer.args, "perception_coef", 0.1)
    rows = LossRows(batch["prompts"], batch["turns"])
    masked, again = (masked_pictures(trainer, rows, batch["rows"]) for _ in range(2))
    looks = [
        bool(prompt.images or (turn and turn.images)) for prompt, turn in zip(rows.prompts, rows.turns, strict=True)
    ]
    assert looks[4:8] == [False, True, False, False]  # text, one row of which was shown a picture
    assert [prompt is not None for prompt in masked.prompts] == looks
    for before, after, same in zip(rows.turns, masked.turns, again.turns, strict=True):
        assert (after is None) == (before is None)
        if before is not None and before.images:
            black = (after.images["pixel_values"] == -1.5).all(dim=-1).float().mean()
            assert 0.3 < black < 0.9 and torch.equal(after.images["pixel_values"], same.images["pixel_values"])
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    with torch.no_grad():
        hidden = score_masked(trainer, masked, rows, batch["completion_ids"], lengths)
        clean = trainer.score_in_parts(trainer.model, rows.prompts, batch["completion_ids"], lengths, turns=rows.turns)
    counted = batch["tool_mask"].bool() & torch.tensor(looks)[:, None]
    expected = token_kl(clean.logps, hidden)[counted].mean()
    assert expected > 1e-3
    metrics = computed(trainer, batch)[2]
    assert metrics["perception/kl"] == pytest.approx(expected.item(), rel=1e-4)


def test_losses_that_reward_looking_are_those_of_sampled_tokens_by_hand(trainer, batch, monkeypatch):
    """PAPO's terms and VPPO's weights, completion by completion, on padded rows."""
    flags = {"perception_coef": 0.2, "perception_entropy_coef": 0.03, "visual_token_share": 0.4}
    for name, value in (flags | {"visual_advantage_min": 0.7}).items():
        monkeypatch.setattr(trainer.args, name, value)
    monkeypatch.setattr(trainer, "black_pixels", {"pixel_values": torch.full((1176,), -1.5)})
    monkeypatch.setattr(trainer, "beta", 0.0)
    monkeypatch.setattr(trainer, "loss_type", "grpo")
    given = {name: value for name, value in batch.items() if name != "old_per_token_logps"}
    rows, lengths = LossRows(batch["prompts"], batch["turns"]), batch["completion_mask"].sum(dim=1).tolist()
    masked = masked_pictures(trainer, rows, batch["rows"])
    batch_of_rows = (batch["completion_ids"], lengths)
    options = {"shared": False, "turns": rows.turns}
    clean = trainer.score_completions(trainer.model, rows.prompts, *batch_of_rows, **options).logps
    with torch.no_grad():
        options = {"shared": False, "turns": masked.turns}
        hidden = trainer.score_completions(trainer.model, masked.prompts, *batch_of_rows, **options).logps
    said = [batch["tool_mask"][row].bool() for row in range(len(PLANS))]
    tokens = [(clean[row][at], hidden[row][at]) for row, at in enumerate(said)]
    assert [len(logps) for logps, _ in tokens] == [sum(plan[::2]) for plan in PLANS]
    kls = [((m - c).exp() - (m - c) - 1).clamp(max=10) for c, m in tokens]
    looks = [prompt is not None for prompt in masked.prompts]
    means = [kl.mean().item() for kl in kls]
    compared = [mean for mean, shown in zip(means, looks, strict=True) if shown]
    scaled = [(mean - min(compared)) / (max(compared) - min(compared)) for mean in means]
    most = 0.7 + 0.3 / (sum(share for share, shown in zip(scaled, looks, strict=True) if shown) / len(compared))
    loss = torch.zeros(())
    for row, (c, _) in enumerate(tokens):
        advantage, kept = batch["advantages"][row], torch.ones(len(c))
        if looks[row]:
            advantage, kept = advantage * (0.7 + (most - 0.7) * scaled[row]), torch.zeros(len(c))
            kept[kls[row].argsort(descending=True, stable=True)[: math.ceil(0.4 * len(c))]] = 1
            loss = loss - (0.2 * kls[row].mean() + 0.03 * c.mean()) / len(PLANS)
        loss = loss - (kept * advantage * (c - c.detach()).exp()).mean() / len(PLANS)
    trainer.model.zero_grad()
    loss.backward()
    expected = take_gradients(trainer.model)
    got, gradients, _ = computed(trainer, given)
    torch.testing.assert_close(got, loss.detach(), atol=1e-5, rtol=1e-5)
    largest = max(gradient.norm() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= 2e-5 * max(gradient.norm(), 1e-2 * largest), name
    assert largest > 1e-3
