"""Rollouts are those of the model that is trained: one of another ends the run, and the padding side acts nowhere."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.trainers import make_trainer
from helpers.trainers import rows as rows_of

from open_r1.rollout import generation
from open_r1.rollout.generation import prefill, shifted_positions
from open_r1.trainer import transformers_rollout
from open_r1.trainer.checks.rollout_agreement import Disagreement
from open_r1.trainer.generation_batch import LossRows


@pytest.fixture
def differences(monkeypatch) -> list[float]:
    """What each look at a rollout found."""
    values, plain = [], transformers_rollout.check_agreement
    monkeypatch.setattr(transformers_rollout, "check_agreement", lambda *args: values.append(plain(*args)))
    return values


@pytest.mark.parametrize(
    "flags", ["", pytest.param("--bf16 true", marks=pytest.mark.slow), "--temperature 0.7 --repetition_penalty 1.2"]
)
def test_one_rollout_of_a_run_is_held_against_training(tiny, mixed, tmp_path, differences, flags):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--use_cpu", "true", *flags.split())
    for rows in ([0, 1, 2], [2, 3, 4]):
        trainer.batch = trainer.new_batch(rows_of(*rows, group=4))
        trainer._generate_single_turn([prompt.ids.tolist() for prompt in trainer.batch.prompts], None, {})
    (difference,) = differences
    print(f"{flags}: {difference:.2g} nats")
    # a CPU with instructions for bfloat16 was 6e-4 off, one without them 6e-3; a bfloat16 rounds by up to 4e-3
    assert difference < (2e-2 if "bf16" in flags else 1e-5)


def shifted(*args: Any) -> Any:
    """Keys of the prompt stand where those of another place stood."""
    cache = prefill(*args)
    for layer in cache.layers:
        layer.keys = layer.keys.roll(1, dims=-2)
    return cache


def blind(backbone: Any, prompts: Any) -> Any:
    """The pictures of the prompts are black."""
    dark = [replace(p, images={n: v * (n != "pixel_values") for n, v in p.images.items()}) for p in prompts]
    return prefill(backbone, dark)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [shifted, blind])
def test_a_rollout_of_another_model_ends_the_run(tiny, digits, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(generation, "prefill", fault)
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "2")
    with pytest.raises(Disagreement, match=r"log-probs that differ from training's by [\d.]+ nats a token, expected"):
        trainer.train()
    assert trainer.state.global_step == 0


def counting_padding(backbone: Any, shifts: torch.Tensor) -> Any:
    """Decoded tokens stand where padding would put them, as in a model that counts it."""
    return shifted_positions(backbone, torch.zeros_like(shifts))


def test_rollouts_that_count_padding_end_the_run_though_their_first_row_has_none(tiny, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "shifted_positions", counting_padding)
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--seed", "1")
    trainer.batch = trainer.new_batch(rows_of(2, 1, 0, group=4))  # the longest first
    lengths = [len(prompt.ids) for prompt in trainer.batch.prompts]
    assert max(lengths) == lengths[0] > min(lengths)
    with pytest.raises(Disagreement, match="log-probs that differ from training's"):
        trainer._generate_single_turn([prompt.ids.tolist() for prompt in trainer.batch.prompts], None, {})


def test_wrong_positions_of_rollouts_and_training_alike_end_the_run(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1")
    trainer.batch = trainer.new_batch(rows_of(0, 1, 2, group=4))
    in_order = {
        id(p): replace(p, positions=torch.arange(len(p.ids)).expand_as(p.positions)) for p in trainer.batch.prompts
    }
    trainer.batch.prompts = [in_order[id(p)] for p in trainer.batch.prompts]
    with pytest.raises(Disagreement, match=r"differ by [\d.]+ nats a token from those of a row alone"):
        trainer._generate_single_turn([prompt.ids.tolist() for prompt in trainer.batch.prompts], None, {})


@pytest.mark.parametrize("flags", ["", "--prefill_once false --shared_prefix false"])
def test_the_padding_side_of_a_processor_acts_nowhere(tiny, mixed, tmp_path, flags):
    """Prompts are made one by one and padded by the trainer, so a user's own processor need not pad left."""
    results = []
    for side in ("left", "right"):
        trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", *flags.split())
        trainer.processing_class.padding_side = trainer.processing_class.tokenizer.padding_side = side
        trainer.loader.processor.padding_side = trainer.loader.processor.tokenizer.padding_side = side
        trainer.generation_config.do_sample = False
        batch = trainer._generate_and_score_completions(rows_of(0, 1, 2, group=4))
        logps = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
            pixel_values=LossRows(batch["prompts"]),
        )[0]
        results.append((batch["prompt_ids"], batch["completion_ids"], batch["completion_mask"], logps))
    assert all(torch.equal(left, right) for left, right in zip(*results, strict=True))
