"""Before its first rollout a run sees that completions of a packed group do not see each other; else it ends."""

import pytest
import torch
from helpers.trainers import make_trainer
from helpers.trainers import rows as rows_of

from open_r1.models.model_parts import bare_model
from open_r1.trainer.checks import packing_check
from open_r1.trainer.checks.packing_check import MixedCompletions, check_packing, text_prompt


@pytest.fixture
def trainer(tiny, mixed, tmp_path):
    return make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--use_cpu", "true")


def leak(trainer, monkeypatch, places: int) -> None:
    """Let each token's last MLP see the token that stands so many places before it."""
    mlp = bare_model(trainer.model).get_decoder().layers[-1].mlp
    plain = mlp.forward
    monkeypatch.setattr(mlp, "forward", lambda x: plain(x + 0.1 * x.roll(places, dims=1)))


def test_a_run_looks_once(trainer, monkeypatch):
    values, plain = [], packing_check.change_of_others
    monkeypatch.setattr(packing_check, "change_of_others", lambda *args: values.append(plain(*args)) or values[-1])
    for rows in ([0, 1], [2, 3]):
        trainer._generate_and_score_completions(rows_of(*rows, group=4))
    assert [float(value) for value in values] == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize("places", [1, 4, -2])
def test_a_layer_that_mixes_completions_ends_the_run(trainer, monkeypatch, places):
    leak(trainer, monkeypatch, places)
    with pytest.raises(MixedCompletions, match="mixes completions; start with --shared_prefix false"):
        trainer.train()
    assert trainer.state.global_step == 0 and trainer.model.training


@pytest.mark.parametrize("flag", ["--check_packing", "--shared_prefix"])
def test_a_flag_turns_the_look_off(tiny, mixed, tmp_path, monkeypatch, flag):
    trainer = make_trainer(tiny, mixed, tmp_path, flag, "false")
    monkeypatch.setattr(packing_check, "change_of_others", lambda *_: pytest.fail("looked"))
    assert check_packing(trainer, trainer.new_batch(rows_of(0)).prompts) is None


def test_the_text_prompt_a_prompt_has_no_pictures(trainer):
    for row in range(3):
        (prompt,) = trainer.new_batch(rows_of(row)).prompts
        text = text_prompt(prompt, trainer.banned_ids)
        assert len(text.ids) == 16 and not text.images and text.positions.shape == (3, 16)
        assert not set(text.ids.tolist()) & set(trainer.banned_ids) and text.ids[-1] == prompt.ids[-1]


def test_a_log_prob_that_is_no_number_counts(trainer, monkeypatch):
    (prompt,) = trainer.new_batch(rows_of(1)).prompts
    monkeypatch.setattr(trainer.model.lm_head.weight, "data", torch.full_like(trainer.model.lm_head.weight, torch.nan))
    assert packing_check.change_of_others(trainer, prompt) == float("inf")
