"""A whole training step of the trainer on CUDA without a device: no error, and few waits of the host."""

from collections import Counter

import pytest
from helpers.fake_gpu import trainer_on_fake_gpu

from open_r1.rehearse.synchronisations import Event

# Waits of the host in a micro-batch's forward, loss and backward, where the line that waits is ours; and in all lines
# of transformers and TRL together (sizes and positions of pictures, masks of completions, metrics).
OURS = {"trainer/forward/log_probs.py": 2, "trainer/forward/optimizations.py": 2}
OTHERS = 30


def file_of(event: Event) -> str | None:
    """The file of ours whose own line waits or copies."""
    place = event.place
    return place.ours.partition(":")[0] if place.ours and not place.library else None


@pytest.mark.slow
def test_a_step_runs_and_waits_little(tiny, mixed, tmp_path):
    with trainer_on_fake_gpu(tiny, mixed, tmp_path) as (trainer, device):
        trainer.train()
        assert trainer.state.global_step == 1 and trainer.optimizations["shared_prefix"]
        assert all(p.device.type == "cuda" for p in trainer.model.parameters())
    books, waits = device.synchronisations, Counter()
    for event, count in books.waits.items():
        if event.phase == "micro-batch 1":  # the one without a generation
            waits[file_of(event)] += count
    others = waits.pop(None)
    assert not waits - Counter(OURS) and others <= OTHERS, (waits, others)
    assert not books.unpinned, books.unpinned
    assert [event for event in books.in_layers() if event.phase == "micro-batch 1"] == []


@pytest.mark.slow
def test_an_evaluation_runs(tiny, mixed, tmp_path):
    with trainer_on_fake_gpu(tiny, mixed, tmp_path) as (trainer, _):
        assert trainer.evaluate()["eval_reward"] == 0.5


SETTINGS = {
    "LoRA, reference, frozen vision": (
        "--use_peft true --beta 0.04 --freeze_vision_modules true --dtype bfloat16 --bf16 false"
    ),
    "reference, checkpointing, old pass": (
        "--beta 0.04 --gradient_checkpointing true --num_iterations 2 --steps_per_generation 2 --loss_type grpo"
    ),
    "padded rows": "--shared_prefix false --prefill_once false --dtype bfloat16 --bf16 false",
    "float32": "--bf16 false",
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_other_settings_run(tiny, mixed, tmp_path, setting):
    with trainer_on_fake_gpu(tiny, mixed, tmp_path, *SETTINGS[setting].split()) as (trainer, _):
        trainer.train()
        assert trainer.state.global_step == 1
        assert bool(trainer.optimizations["reuse_vision_features"]) == ("frozen vision" in setting)
