"""The losses that reward looking are those of their formulas, computed by hand on padded rows in float32."""

import numpy as np
import pytest
import torch
from helpers.resumed_runs import assert_same, train
from helpers.trainers import batch_of, make_trainer, rows, take_gradients
from PIL import Image

from open_r1.rollout.prompts import process_chat
from open_r1.trainer.forward.patch_masks import mask_patches, pixels_of_color
from open_r1.trainer.forward.perception import mean_of_tokens

STEP = ["--max_steps", "1", "--gradient_accumulation_steps", "1"]
PAPO = ["--perception_coef", "0.2"]
BOTH_ENTROPIES = ["--perception_masked_entropy_coef", "0.07", "--perception_mask_share", "0.3"]
VPPO = ["--visual_token_share", "0.4", "--visual_advantage_min", "0.7"]
CASES = {"papo": PAPO, "papo, masked entropy": PAPO + BOTH_ENTROPIES, "vppo": VPPO, "both": PAPO + VPPO}


def micro_batch(trainer, *numbers: int) -> dict:
    """A batch of rows (0: one picture, 1: text, 2: two pictures), with their numbers as training has them."""
    return batch_of(trainer, *numbers) | {"rows": rows(*numbers, group=4)}


def ours(trainer, batch: dict, steps: int = 1) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    trainer.current_gradient_accumulation_steps = steps
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.detach(), take_gradients(trainer.model)


def masked_by_hand(trainer, batch: dict, share: float) -> list:
    """Prompts whose patches are black, as the processor makes black, where the row's own generator says so."""
    prompts = []
    for row, prompt in zip(batch["rows"], batch["prompts"], strict=True):
        example = trainer.loader.take([row])[0]
        black = [Image.new("RGB", picture.size) for picture in example.pictures]
        chat = trainer.loader.conversation(example.record, black)
        fields = process_chat(trainer.processing_class, chat, trainer.fields, trainer.loader.template).images
        if fields:
            rng = np.random.default_rng([trainer.args.seed, trainer.state.global_step, row["row"]])
            drawn = torch.from_numpy(rng.random(len(fields["pixel_values"])) < share)
            pixels = torch.where(drawn[:, None], fields["pixel_values"], prompt.images["pixel_values"])
            prompt = type(prompt)(
                prompt.ids, prompt.positions, prompt.types, prompt.images | {"pixel_values": pixels}, prompt.joins
            )
        prompts.append(prompt)
    return prompts


def by_hand(trainer, batch: dict, steps: int = 1) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of `--loss_type grpo` on padded rows, completion by completion, with the formulas of the papers."""
    args, lengths = trainer.args, batch["completion_mask"].sum(dim=1).tolist()
    share = args.perception_mask_share or (0.6 if args.perception_coef else 0.5)
    batch_of_rows = (batch["completion_ids"], lengths)
    clean = trainer.score_completions(trainer.model, batch["prompts"], *batch_of_rows, shared=False).logps
    masked = masked_by_hand(trainer, batch, share)
    masked = trainer.score_completions(trainer.model, masked, *batch_of_rows, shared=False).logps
    if not args.perception_masked_entropy_coef:
        masked = masked.detach()
    shown = [bool(prompt.images) for prompt in batch["prompts"]]
    tokens = [(clean[i, :n], masked[i, :n]) for i, n in enumerate(lengths)]
    kls = [(m - c).exp() - (m - c) - 1 for c, m in tokens]
    least, means = args.visual_advantage_min, [kl.mean().item() for kl in kls]
    compared = [mean for mean, has in zip(means, shown, strict=True) if has]
    scaled = [(mean - min(compared)) / (max(compared) - min(compared)) for mean in means]
    most = least + (1 - least) / (sum(s for s, has in zip(scaled, shown, strict=True) if has) / len(compared))
    total = torch.zeros(())
    for i, (c, m) in enumerate(tokens):
        advantage, kept = batch["advantages"][i], torch.ones(len(c))
        if args.visual_token_share < 1 and shown[i]:
            advantage = advantage * (least + (most - least) * scaled[i])
            kept = torch.zeros(len(c))
            kept[kls[i].topk(int(np.ceil(args.visual_token_share * len(c)))).indices] = 1
        loss = -(kept * advantage * (c - c.detach()).exp()).mean()
        if args.perception_coef and shown[i]:
            loss = loss - args.perception_coef * kls[i].mean() - args.perception_entropy_coef * c.mean()
            loss = loss - args.perception_masked_entropy_coef * m.mean()
        total = total + loss / len(tokens) / steps
    total.backward()
    return total.detach(), take_gradients(trainer.model)


def assert_equal(got, expected) -> None:
    torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=1e-5)
    largest = max(gradient.norm() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert (got[1][name] - gradient).norm() <= 1e-5 * max(gradient.norm(), 1e-2 * largest) * 2, name
    assert largest > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_padded_rows_by_hand(tiny, mixed, tmp_path, case):
    trainer = make_trainer(tiny, mixed, tmp_path, *STEP, "--loss_type", "grpo", *CASES[case])
    batch = micro_batch(trainer, 0, 1, 2)
    assert_equal(ours(trainer, batch), by_hand(trainer, batch))


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["adapters", "frozen vision", "accumulated", "checkpointed"])
def test_settings_of_a_run_change_nothing_of_it(tiny, mixed, tmp_path, setting):
    flags = {"adapters": ["--use_peft", "true"], "frozen vision": ["--freeze_vision_modules", "true"]}.get(setting, [])
    flags = [*STEP, "--loss_type", "grpo", *PAPO, *VPPO, *flags]
    trainer = make_trainer(tiny, mixed, tmp_path, *flags)
    if setting == "frozen vision":
        for name, parameter in trainer.model.named_parameters():
            parameter.requires_grad_("visual" not in name)
    batch = micro_batch(trainer, 0, 1, 2)
    steps = 3 if setting == "accumulated" else 1
    expected = by_hand(trainer, batch, steps)
    if setting == "checkpointed":
        trainer.model.gradient_checkpointing_enable()
    assert_equal(ours(trainer, batch, steps), expected)


@pytest.mark.parametrize("budget", [None, 130])
def test_rows_without_advantage_are_left_out_exactly_and_parts_change_nothing(
    tiny, mixed, tmp_path, monkeypatch, budget
):
    trainer = make_trainer(tiny, mixed, tmp_path, *STEP, *VPPO)
    batch = micro_batch(trainer, 0, 1, 2)
    batch["advantages"][[0, 5, 9]] = 0
    monkeypatch.setitem(trainer.optimizations.off, "skip_zero_advantages", "switched off by the test")
    whole = ours(trainer, batch)
    monkeypatch.setitem(trainer.optimizations.off, "skip_zero_advantages", None)
    trainer.args.tokens_per_forward = budget
    assert_equal(ours(trainer, batch), whole)


def test_a_batch_of_text_alone_keeps_the_plain_loss(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *STEP, *PAPO, *VPPO)
    batch = micro_batch(trainer, 1, 4)
    got = ours(trainer, batch)
    trainer.args.perception_coef, trainer.args.visual_token_share = 0.0, 1.0
    assert_equal(got, ours(trainer, batch))


# What each loss averages where the policy is the sampling one: of advantage -1 and of log-probs l.
AVERAGED = {"grpo": 1, "bnpo": 1, "dr_grpo": 1, "dapo": 1, "luspo": 1, "sapo": 2 / 1.05, "cispo": None, "vespo": None}


@pytest.mark.slow
@pytest.mark.parametrize("loss", AVERAGED)
def test_terms_are_averaged_as_the_loss_averages_its_tokens(tiny, mixed, tmp_path, loss):
    trainer = make_trainer(tiny, mixed, tmp_path, *STEP)
    trainer.loss_type, trainer.epsilon_high = loss, 5.0 if loss == "cispo" else 0.2
    trainer.current_gradient_accumulation_steps = 1
    batch = micro_batch(trainer, 0, 1, 2)
    batch["advantages"] = -torch.ones(12)
    with torch.no_grad():
        plain = trainer.compute_loss(trainer.model, dict(batch))
        lengths = batch["completion_mask"].sum(dim=1).tolist()
        logps = trainer.score_completions(trainer.model, batch["prompts"], batch["completion_ids"], lengths).logps
    values = logps if AVERAGED[loss] is None else torch.full_like(logps, AVERAGED[loss])
    averaged = mean_of_tokens(trainer, values, batch["completion_mask"], batch)
    torch.testing.assert_close(averaged, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [PAPO, VPPO], ids=["papo", "vppo"])
def test_a_resumed_run_masks_what_the_undisturbed_one_did(tiny, few, tmp_path, flags):
    flags = (*flags, "--save_strategy", "steps", "--save_steps", "3")
    whole = train(tiny, few, tmp_path, "longer than a step", *flags)
    again = train(tiny, few, tmp_path, "longer than a step", *flags, checkpoint=tmp_path / "checkpoint-3")
    assert_same(again, whole)
    assert any("perception/kl" in line for line in whole.state.log_history)


def test_masks_differ_by_step_and_row_and_have_their_share(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *STEP)
    (prompt,) = trainer.prompts_on_device(trainer.loader.take(rows(2)))
    black = pixels_of_color(trainer.processing_class, trainer.fields)
    masked = [mask_patches(prompt, black, 0.6, [7, step, row]) for step in range(20) for row in range(20)]
    drawn = torch.stack([(m.images["pixel_values"] != prompt.images["pixel_values"]).any(dim=1) for m in masked])
    assert len({tuple(one.tolist()) for one in drawn}) == len(masked)
    # patches of the digits' black ground do not change
    changes = (prompt.images["pixel_values"] != black["pixel_values"]).any(dim=1)
    assert drawn[:, changes].float().mean() == pytest.approx(0.6, abs=0.02) and not drawn[:, ~changes].any()
