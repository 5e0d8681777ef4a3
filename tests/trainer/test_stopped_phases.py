"""In whatever phase a run is told to stop, the last finished step is saved; a moved output folder is noticed."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers.resumed_runs import SMALL, WINDOWS, assert_same, make_checkpoint, train
from helpers.trainers import make_trainer

from open_r1.trainer.checkpointing import select
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.checkpointing.select import Resume
from open_r1.trainer.lifecycle import shutdown
from open_r1.trainer.lifecycle.held_folder import HeldFolder, moved_text

EVERY_STEP = "--eval_strategy steps --eval_steps 1 --per_device_eval_batch_size 4"


def trainer_of(tiny, few, out, *flags):
    return make_trainer(tiny, few, out, *SMALL.split(), *WINDOWS["across steps"].split(), *flags)


def at(trainer, method: str, step: int, act) -> None:
    """Call `act` before the first call of a method when `step` steps are done."""
    plain, done = getattr(trainer, method), []

    def wrapped(*args, **kwargs):
        if trainer.state.global_step == step and not done:
            done.append(act())
        return plain(*args, **kwargs)

    setattr(trainer, method, wrapped)


def ended(trainer, checkpoint=None) -> int:
    """The exit status of a run."""
    with pytest.raises(SystemExit) as end:
        shutdown.train(trainer, Resume(checkpoint, {}))
    return end.value.code


# --------------------------------------------------------------------------------------------------------------- stops


@pytest.fixture(scope="module")
def whole(tiny, few, tmp_path_factory):
    return train(tiny, few, tmp_path_factory.mktemp("whole"), "across steps", *EVERY_STEP.split())


def stop_at(trainer, method: str, step: int) -> int:
    at(trainer, method, step, lambda: setattr(trainer.signals, "received", signal.SIGTERM))
    return ended(trainer)


# method in which the signal comes, number of finished steps -> what is saved
PHASES = {
    "the evaluation of the first step": ("prediction_step", 1, "checkpoint-1"),
    "a log write": ("log", 2, "checkpoint-2"),
    "the last step of an epoch": ("_maybe_log_save_evaluate", 3, "checkpoint-3"),
    "a save": ("_save_checkpoint", 4, "checkpoint-4"),
    "a rollout": ("_generate_single_turn", 1, "checkpoint-1"),
    "a reward": ("_calculate_rewards", 1, "checkpoint-1"),
}


@pytest.mark.slow
def test_a_stop_in_the_evaluation_of_the_first_step_saves_that_step(tiny, few, tmp_path, capsys):
    assert stop_at(trainer_of(tiny, few, tmp_path, *EVERY_STEP.split()), "prediction_step", 1) == 0
    assert (
        f"after step 1; continue it with --resume_from_checkpoint {tmp_path}/checkpoint-1" in capsys.readouterr().err
    )
    assert select.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_whatever_is_broken_off_the_run_goes_on_exactly(tiny, few, tmp_path, capsys, whole, phase):
    method, step, name = PHASES[phase]
    flags = ["--save_strategy", "steps", "--save_steps", "4"] if phase == "a save" else []
    flags += [] if phase in ("a rollout", "a reward") else EVERY_STEP.split()  # of training, not of an evaluation
    assert stop_at(trainer_of(tiny, few, tmp_path, *flags), method, step) == 0
    saved = tmp_path / name
    assert f"after step {step}; continue it with --resume_from_checkpoint {saved}, or auto" in capsys.readouterr().err
    assert select.newest_checkpoint(tmp_path) == saved
    resumed = train(tiny, few, tmp_path, "across steps", *EVERY_STEP.split(), checkpoint=saved)
    assert_same(resumed, whole)


@pytest.mark.parametrize(("method", "flags"), [("prediction_step", "--eval_on_start true"), ("training_step", "")])
def test_before_the_first_step_there_is_nothing_to_save(tiny, few, tmp_path, capsys, method, flags):
    make_checkpoint(tmp_path / "checkpoint-9", "model.safetensors")  # of an earlier run: it is none of this one
    assert stop_at(trainer_of(tiny, few, tmp_path, *EVERY_STEP.split(), *flags.split()), method, 0) == 0
    message = "The run ended after step 0; it had finished no step, so there is nothing to save: start it again\n"
    assert message in capsys.readouterr().err and not (tmp_path / "checkpoint-0").exists()


@pytest.mark.slow
def test_in_the_evaluation_at_the_start_of_a_resumed_run_its_checkpoint_is_named(tiny, few, tmp_path, capsys):
    train(tiny, few, tmp_path, "across steps", "--save_strategy", "steps", "--save_steps", "2")
    saved, out = tmp_path / "checkpoint-2", tmp_path / "again"
    trainer = trainer_of(tiny, few, out, *EVERY_STEP.split(), "--eval_on_start", "true")
    at(trainer, "prediction_step", 2, lambda: setattr(trainer.signals, "received", signal.SIGTERM))
    assert ended(trainer, saved) == 0 and select.checkpoints_in(out) == []
    assert f"after step 2; continue it with --resume_from_checkpoint {saved}\n" in capsys.readouterr().err


def test_auto_is_recommended_where_it_takes_what_was_saved(tiny, few, tmp_path, capsys):
    make_checkpoint(tmp_path / "checkpoint-9", "model.safetensors")
    assert stop_at(trainer_of(tiny, few, tmp_path), "training_step", 1) == 0
    assert f"--resume_from_checkpoint {tmp_path}/checkpoint-1\n" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- moved folder


def renamed(out: Path) -> Path:
    return out.rename(out.with_name("elsewhere"))


def replaced(out: Path) -> Path:
    place = renamed(out)
    out.mkdir()
    return place


def copied_and_replaced(out: Path) -> Path:
    place = renamed(out)
    shutil.copytree(place, out)
    return place


def deleted(out: Path) -> Path:
    shutil.rmtree(out)
    return out


def deleted_and_made_again(out: Path) -> Path:
    shutil.rmtree(out)
    out.mkdir()
    return out


MOVES = [renamed, replaced, copied_and_replaced, deleted, deleted_and_made_again]


@pytest.mark.parametrize("move", MOVES)
def test_a_folder_is_known_wherever_it_goes(tmp_path, move):
    out = tmp_path / "out"
    held = HeldFolder(str(out))
    assert held.new_place() is None and held.new_place() is None
    assert (
        held.new_place() is None
        if move(out) is None
        else held.new_place()
        == (tmp_path / "elsewhere" if "renamed" in move.__name__ or "replaced" in move.__name__ else out)
    )


def test_what_is_no_move_is_none(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    held = HeldFolder(str(tmp_path / "link"))
    (tmp_path / "real" / "file").touch()
    os.utime(tmp_path / "real", (0, 0))
    (tmp_path / "real").chmod(0o700)
    assert held.new_place() is None
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path)  # the link is led elsewhere
    assert held.new_place() == tmp_path / "real"


def test_a_folder_is_known_by_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = HeldFolder("out")
    assert held.new_place() is None
    (tmp_path / "out").rename(tmp_path / "b")
    assert held.new_place() == tmp_path / "b"


@pytest.mark.parametrize("move", [pytest.param(m, marks=[] if m is replaced else pytest.mark.slow) for m in MOVES])
@pytest.mark.parametrize(
    ("method", "step", "flags"),
    [
        ("_maybe_log_save_evaluate", 2, ""),
        pytest.param("_generate_single_turn", 1, "", marks=pytest.mark.slow),
        pytest.param("_generate_single_turn", 1, "--save_strategy steps --save_steps 1", marks=pytest.mark.slow),
    ],
)
def test_a_folder_that_is_moved_under_a_run_ends_it_with_a_checkpoint_there(
    tiny, few, tmp_path, capsys, move, method, step, flags
):
    out, places = tmp_path / "out", []
    trainer = trainer_of(tiny, few, out, *flags.split())
    at(trainer, method, step, lambda: places.append(move(out)))
    assert ended(trainer) == 1
    (place,), said = places, capsys.readouterr().err
    saved = place / f"checkpoint-{step}"
    assert moved_text(str(out), str(place)) in said
    assert f"The run ended after step {step}; continue it with --resume_from_checkpoint {saved}, or auto" in said
    assert select.checkpoints_in(place) == [saved] and select.checkpoint_defects(saved, False, (0, 1)) == []
    if move is replaced:
        assert select.checkpoints_in(out) == []


@pytest.mark.slow
def test_a_stop_in_a_moved_folder_says_both(tiny, few, tmp_path, capsys):
    out = tmp_path / "out"
    trainer = trainer_of(tiny, few, out)

    def stop() -> None:
        renamed(out)
        trainer.signals.received = signal.SIGTERM

    at(trainer, "training_step", 2, stop)
    assert ended(trainer) == 0
    said, place = capsys.readouterr().err, tmp_path / "elsewhere"
    assert "SIGTERM: the run was asked to stop" in said and f"which was moved to {place}" in said
    assert save_checkpoint_now(trainer) == place / "checkpoint-2" and not out.exists()
