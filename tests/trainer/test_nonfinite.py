"""NaN and infinity in loss or gradient: the weights stay what they were, and the rows are named."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import small_net
from helpers.repository import run_script
from helpers.small_net import Net, warnings
from helpers.trainers import make_trainer
from safetensors.torch import load_file

from open_r1 import grpo_jsonl
from open_r1.errors import UsageError
from open_r1.trainer.checks import nonfinite
from open_r1.trainer.checks.nonfinite import NotFinite
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer


@pytest.fixture
def train(tmp_path: Path) -> Any:
    return partial(small_net.train, tmp_path)


def bad(*steps: int, value: float = float("nan")) -> Any:
    """A fault: the loss of these steps is no number."""
    return lambda loss, step: loss * value if step in steps else loss


def bad_gradient(*steps: int) -> Any:
    """A fault: the loss is fine, and its gradient infinite."""

    def fault(loss: torch.Tensor, step: int) -> torch.Tensor:
        if step in steps:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    return fault


@pytest.mark.parametrize("clip", [1.0, 0.0])
@pytest.mark.parametrize(
    ("fault", "got"),
    [
        (bad(3), "a loss that is not finite"),
        (bad(3, value=float("inf")), "a loss that is not finite"),
        (bad_gradient(3), "a gradient norm of (nan|inf)"),
    ],
)
def test_a_run_stops_before_its_weights_are_touched(train, fault, got, clip):
    good, net = Net(), Net(fault)
    train(good, max_grad_norm=clip, steps=2)
    with pytest.raises(NotFinite, match=rf"step 3: got {got}, expected a number\. Rows: rows\.jsonl:3\. Lower") as e:
        train(net, max_grad_norm=clip, steps=4)
    assert "The step was taken" not in str(e.value) and "--on_nonfinite skip" in str(e.value)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), good.parameters(), strict=True))


@pytest.mark.parametrize("fault", [bad(2, 3), bad_gradient(2, 3)])
def test_skipped_steps_leave_weights_and_moments_alone(train, caplog, fault):
    net, weights = Net(fault), []
    plain = net.forward

    def forward(x: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
        weights.append(net.layers[0].weight.detach().clone())
        return plain(x, step)

    net.forward = forward
    trainer = train(net, steps=5, on_nonfinite="skip")
    unchanged = [torch.equal(a, b) for a, b in pairwise(weights)]
    assert unchanged == [False, True, True, False]  # by steps 1 to 4
    moments = trainer.optimizer.state[net.layers[0].weight]
    assert moments["step"] == 3 and all(torch.isfinite(value).all() for value in moments.values())
    (message,) = warnings(caplog, "nonfinite")
    assert message.startswith("step 2: got ") and "left out" in message
    logs = [entry["nonfinite_steps"] for entry in trainer.state.log_history if "loss" in entry]
    assert logs == [0, 1, 2, 2, 2]


@pytest.mark.slow
def test_ten_skipped_steps_in_a_row_stop(train):
    with pytest.raises(NotFinite, match=r"step 12: .*, 10 times in a row\."):
        train(Net(bad(*range(3, 30))), steps=30, on_nonfinite="skip")
    trainer = train(Net(bad(*range(3, 12), *range(13, 22))), steps=22, on_nonfinite="skip")
    assert trainer.nonfinite_steps == 18


@pytest.mark.slow
def test_a_loss_scaler_may_look_for_its_scale(train, monkeypatch):
    monkeypatch.setattr(nonfinite, "uses_loss_scaler", lambda trainer: True)
    assert train(Net(bad_gradient(*range(2, 21))), steps=21).nonfinite_steps == 19
    with pytest.raises(NotFinite, match=r"step 21: .*, 20 times in a row\."):
        train(Net(bad_gradient(*range(2, 30))), steps=30)
    with pytest.raises(NotFinite, match="step 2: got a loss"):
        train(Net(bad(2)))


def test_a_step_that_was_taken_is_not_skipped(train, monkeypatch):
    monkeypatch.setattr(nonfinite, "step_is_partial", lambda trainer: True)
    with pytest.raises(NotFinite, match="The step was taken, so the weights may be of no use"):
        train(Net(bad(3)), on_nonfinite="skip")


def test_a_deepspeed_file_that_takes_any_step_is_refused():
    def accelerator(**bf16: Any) -> Any:
        plugin = SimpleNamespace(deepspeed_config={"bf16": bf16})
        return SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin))

    nonfinite.refuse_unchecked_overflow(accelerator(enabled=True))
    with pytest.raises(UsageError, match=r"got bf16\.check_grad_overflow false"):
        nonfinite.refuse_unchecked_overflow(accelerator(enabled=True, check_grad_overflow=False))


def test_the_rows_of_the_bad_micro_batch_alone_are_named(train):
    with pytest.raises(NotFinite, match=r"Rows: rows\.jsonl:5\. ") as error:
        train(Net(bad(5)), gradient_accumulation_steps=3)
    assert str(error.value).startswith("step 2: ")


# ---------------------------------------------------------------------------------------------------- real runs


def spoiled(trainer: Any, *steps: int) -> Any:
    """The trainer with a loss of NaN in these steps, counted from 1."""
    plain = trainer._compute_loss
    trainer._compute_loss = lambda *args: (
        plain(*args) * (float("nan") if trainer.state.global_step + 1 in steps else 1)
    )
    return trainer


@pytest.mark.slow
def test_the_count_of_steps_left_out_survives_a_resume(tiny, digits, tmp_path):
    flags = ["--max_steps", "4", "--on_nonfinite", "skip", "--save_strategy", "steps", "--save_steps", "1"]
    whole = spoiled(make_trainer(tiny, digits / "train.jsonl", tmp_path, *flags), 2, 4)
    whole.train()
    again = spoiled(make_trainer(tiny, digits / "train.jsonl", tmp_path / "again", *flags), 2, 4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    lines = [[line for line in t.state.log_history if "loss" in line] for t in (whole, again)]
    assert [line["nonfinite_steps"] for line in lines[0]] == [0, 1, 1, 2]
    assert [line["nonfinite_steps"] for line in lines[1][-2:]] == [1, 2] and again.nonfinite_steps == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.slow
def test_a_stopped_grpo_run_leaves_the_last_good_step_and_goes_on_from_it(tiny, digits, tmp_path, monkeypatch, capsys):
    def main(out: Path, *more: str) -> None:
        argv = f"--model_name_or_path {tiny} --data_file_paths {digits / 'train.jsonl'} --image_folders {digits}"
        argv += f" --task_type digits --output_dir {out} --num_generations 4 --per_device_train_batch_size 8"
        argv += " --max_completion_length 8 --max_steps 3 --save_strategy no --bf16 false --report_to none"
        grpo_jsonl.main([*argv.split(), "--gradient_checkpointing", "false", *more])

    main(tmp_path / "whole")
    plain = VLMGRPOTrainer._compute_loss
    fault = lambda self, *args: plain(self, *args) * (float("nan") if self.state.global_step == 2 else 1)  # noqa: E731
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(VLMGRPOTrainer, "_compute_loss", fault)
        main(tmp_path / "run")
    message = f"{ended.value.code}\n{capsys.readouterr().err}"
    assert "step 3: got a loss that is not finite, expected a number. Rows: " in message and ended.value.code != 0
    assert f"{digits / 'train.jsonl'}:" in message and "The run ended after step 2; continue it with" in message
    main(tmp_path / "run", "--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-2"))
    whole, again = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_an_sft_run_that_diverges_names_its_rows_and_an_adapter_is_no_false_alarm(tiny, mixed, tmp_path):
    flags = f"--model_name_or_path {tiny} --data_file_paths {mixed} --image_folders {mixed.parent} --task_type digits"
    flags += " --max_steps 3 --per_device_train_batch_size 4 --save_strategy no --bf16 false --report_to none"
    for packed in ("false", "true"):
        out = ["--output_dir", tmp_path / packed, "--padding_free", packed, "--learning_rate", "1e30"]
        done = run_script("src/open_r1/sft_jsonl.py", *flags.split(), *out, "--max_grad_norm", "0", check=False)
        assert done.returncode == 1 and "step 2: got a loss that is not finite" in done.stderr, done.stderr[-3000:]
        places = done.stderr.split("Rows: ")[1].split(". Lower")[0].split(", ")
        assert len(set(places)) == 4 and all(place.startswith(f"{mixed}:") for place in places)
        assert (tmp_path / packed / "checkpoint-1" / "trainer_state.json").exists()
    peft = ["--use_peft", "true", "--lora_vision", "true", "--output_dir", tmp_path / "lora"]
    done = run_script("src/open_r1/sft_jsonl.py", *flags.split(), *peft)
    assert "learned nothing" not in done.stderr
