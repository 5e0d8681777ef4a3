"""Old checkpoints are deleted by step and manifest: the newest whole one, the one just written and the best one stay,
whatever the clocks said, and nothing that this run did not write is touched."""

import itertools
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from helpers.resumed_runs import PLAIN, make_checkpoint

from open_r1.trainer.checkpointing import rotation
from open_r1.trainer.checkpointing.manifest import size_problems
from open_r1.trainer.checkpointing.rotation import best_beside, rotate, warn_of_higher
from open_r1.trainer.checkpointing.select import checkpoints_in, newest_checkpoint, step_of


def run_of(folder: Path, *steps: int) -> list[Path]:
    """Whole checkpoints of these steps."""
    return [make_checkpoint(folder / f"checkpoint-{step}", PLAIN) for step in steps]


def steps_in(folder: Path) -> list[int]:
    return sorted(step_of(path) for path in checkpoints_in(folder))


def set_age(path: Path, days: float) -> None:
    then = time.time() + 86_400 * days
    os.utime(path, (then, then))


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("order", itertools.permutations([-2, 0, 400]))
def test_times_play_no_part(tmp_path, limit, order):
    """Clocks of other nodes, copied folders, restored backups."""
    for path, days in zip(run_of(tmp_path, 2, 10, 9), order, strict=True):
        set_age(path, days)
    rotate(tmp_path / "checkpoint-10", limit)
    assert steps_in(tmp_path) == [2, 9, 10][-limit:]


@pytest.mark.parametrize("limit", [None, 0, -1, 3, 100])
def test_nothing_goes_within_the_limit(tmp_path, limit):
    run_of(tmp_path, 2, 4, 6)
    assert rotate(tmp_path / "checkpoint-6", limit) == [] and steps_in(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [(1, 2, [2, 8]), (2, 2, [2, 8]), (3, 2, [2, 6, 8]), (1, 8, [8]), (2, 8, [6, 8]), (1, 4, [4, 8]), (1, 3, [8])],
)
def test_the_best_checkpoint_stays_as_in_transformers(tmp_path, limit, best, left):
    run_of(tmp_path, 2, 4, 6, 8)
    rotate(tmp_path / "checkpoint-8", limit, f"/where/it/was/written/checkpoint-{best}")
    assert steps_in(tmp_path) == left


@pytest.mark.parametrize("higher", [[9], [9, 10], [100]])
def test_higher_ones_of_an_earlier_run_stay_and_are_named_once(tmp_path, caplog, higher):
    run_of(tmp_path, 2, 4, *higher)
    rotate(tmp_path / "checkpoint-4", 1)
    assert steps_in(tmp_path) == [4, *higher]
    warned = warn_of_higher(tmp_path / "checkpoint-4", frozenset())
    assert warn_of_higher(tmp_path / "checkpoint-4", warned) == warned == {f"checkpoint-{step}" for step in higher}
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"would take checkpoint-{higher[-1]}; remove them, or name {tmp_path}/checkpoint-4" in message


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_text("")


DAMAGES = {
    "cut": cut,
    "without a manifest": lambda folder: (folder / "manifest.json").unlink(),
    "with a damaged manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "without weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_goes_where_the_one_just_written_is_not_whole(tmp_path, damage):
    run_of(tmp_path, 2, 4, 6)
    DAMAGES[damage](tmp_path / "checkpoint-6")
    assert rotate(tmp_path / "checkpoint-6", 1) == [] and steps_in(tmp_path) == [2, 4, 6]
    assert newest_checkpoint(tmp_path).name == "checkpoint-4"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_older_ones_neither_go_nor_count(tmp_path, damage):
    run_of(tmp_path, 2, 4, 6, 8)
    DAMAGES[damage](tmp_path / "checkpoint-6")
    rotate(tmp_path / "checkpoint-8", 2)
    assert steps_in(tmp_path) == [4, 6, 8]


def test_links_and_other_names_are_left_alone(tmp_path):
    """A link's target is on another disk, perhaps another run's."""
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    run_of(run, 4, 6)
    run_of(elsewhere, 2)
    (run / "checkpoint-2").symlink_to(elsewhere / "checkpoint-2")
    (run / "checkpoint-3").symlink_to(tmp_path / "nowhere")
    for name in ("checkpoint-x", "checkpoint-1.old", "my-checkpoint-1", "checkpoint"):
        make_checkpoint(run / name, PLAIN)
    (run / "checkpoint-1").write_text("a file")
    before = {path.name for path in run.iterdir()}
    assert rotate(run / "checkpoint-6", 1) == [run / "checkpoint-4"]
    assert {path.name for path in run.iterdir()} == before - {"checkpoint-4"}
    assert size_problems(elsewhere / "checkpoint-2") == []


def test_a_run_below_a_linked_folder_rotates_alike(tmp_path):
    run_of(tmp_path / "real", 2, 4, 6)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    rotate(tmp_path / "link" / "checkpoint-6", 1)
    assert steps_in(tmp_path / "real") == [6]


def test_what_cannot_be_deleted_is_named(tmp_path, caplog, monkeypatch):
    run_of(tmp_path, 2, 4)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(rotation.Path, "rename", refuse)
    assert rotate(tmp_path / "checkpoint-4", 1) == [] and steps_in(tmp_path) == [2, 4]
    assert "checkpoint-2: cannot be deleted for --save_total_limit ([Errno 13] Permission denied)" in caplog.text


def test_a_kill_while_one_is_deleted_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    run_of(tmp_path, 2, 4)
    monkeypatch.setattr(rotation.shutil, "rmtree", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rotate(tmp_path / "checkpoint-4", 1)
    assert steps_in(tmp_path) == [4] and (tmp_path / "saving" / "checkpoint-2").exists()  # the next save removes it


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_of_any_folder_the_promises_hold(tmp_path, seed):
    """Random steps, times, damages, links, limits and best ones, over several saves."""
    rng = random.Random(seed)
    steps = rng.sample(range(1, 30), rng.randint(2, 8))
    run_of(tmp_path, *steps)
    damaged = {step for step in steps if rng.random() < 0.25}
    for step in damaged:
        rng.choice(list(DAMAGES.values()))(tmp_path / f"checkpoint-{step}")
    for path in checkpoints_in(tmp_path):
        set_age(path, rng.uniform(-9, 9))
    limit, best = rng.choice([None, 1, 1, 2, 3]), rng.choice([None, *steps])
    for written in sorted(rng.sample(range(1, 30), 3)):
        shutil.rmtree(tmp_path / f"checkpoint-{written}", ignore_errors=True)
        run_of(tmp_path, written)
        damaged.discard(written)
        set_age(tmp_path / f"checkpoint-{written}", rng.uniform(-9, 9))
        before = set(steps_in(tmp_path))
        gone = {
            step_of(path)
            for path in rotate(tmp_path / f"checkpoint-{written}", limit, best and f"a/checkpoint-{best}")
        }
        left = set(steps_in(tmp_path))
        assert left == before - gone and not gone & {written, best} and not gone & damaged
        assert all(step < written for step in gone)
        own = {step for step in left - damaged if step <= written}
        assert limit is None or len(own) <= max(limit, len({written, best} & own))
        assert all(step > max(gone) for step in own - {best}) if gone else True  # the oldest go first
        assert max(before - damaged) in left


# --------------------------------------------------------------------------------------------------------------- best


@pytest.mark.parametrize(
    ("best", "there", "expected"),
    [("/old/run/checkpoint-2", True, "checkpoint-2"), ("/old/run/checkpoint-2", False, None), (None, True, None)],
)
def test_the_best_checkpoint_of_a_copied_folder_is_the_one_beside(tmp_path, best, there, expected):
    run_of(tmp_path, 4, *([2] if there else []))
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": best}))
    assert best_beside(tmp_path / "checkpoint-4") == (expected and str(tmp_path / expected))
