"""A checkpoint is whole or left out with what is wrong; a folder has one run at a time."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.resumed_runs import PLAIN, make_checkpoint

from open_r1 import grpo_jsonl
from open_r1.errors import UsageError
from open_r1.trainer.checkpointing import atomic_save, select
from open_r1.trainer.checkpointing.required_files import read_state
from open_r1.trainer.lifecycle import run_lock


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a byte differs": (flip, "holds other bytes than were written|is damaged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, expected|is damaged"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"0"), "bytes, expected|is damaged"),
    "gone": (Path.unlink, "is missing|there is no manifest.json"),
}


@pytest.mark.parametrize("name", [*PLAIN.split(), "run_state.json", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_out_with_what_is_wrong(tmp_path, caplog, name, damage):
    whole, damaged = (make_checkpoint(tmp_path / f"checkpoint-{step}", PLAIN) for step in (3, 6))
    assert select.newest_checkpoint(tmp_path) == damaged
    strike, message = DAMAGES[damage]
    strike(damaged / name)
    assert select.newest_checkpoint(tmp_path) == whole
    assert re.search(rf"checkpoint-6 is left out: .*({message})", caplog.text)
    with pytest.raises(UsageError, match=r"is not: .*\. (to go on .*)?choose a complete one \(checkpoint-3\)"):
        select.named_checkpoint(damaged)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": 3}', '{"files": {"a": {}}}', "\udcff", '{"files": {"../x": 1}}']
)
def test_a_manifest_that_is_none_is_a_damage(tmp_path, text):
    folder = make_checkpoint(tmp_path / "checkpoint-1", PLAIN)
    (folder / "manifest.json").write_text(text, errors="surrogateescape")
    assert "manifest.json is damaged" in select.checkpoint_defects(folder, True, (0, 1))[0]


def test_a_checkpoint_without_a_manifest_is_continued_from_on_demand_alone(tmp_path):
    folder = make_checkpoint(tmp_path / "checkpoint-1", PLAIN)
    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"there is no manifest\.json.*add --resume_unverified true"):
        select.named_checkpoint(folder)
    assert select.named_checkpoint(folder, unverified=True) == folder
    (folder / "optimizer.pt").unlink()
    with pytest.raises(UsageError, match=r"lacks optimizer\.pt"):
        select.named_checkpoint(folder, unverified=True)


def test_ranks_share_the_reading(tmp_path):
    folder = make_checkpoint(tmp_path / "checkpoint-1", PLAIN)
    files = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    flip(folder / files[1])
    damages = [select.damages(folder, rank, ranks=3) for rank in range(3)]
    assert [bool(wrong) for wrong in damages] == [False, True, False]


def test_what_a_killed_save_left_is_no_checkpoint_and_goes_with_the_next(tmp_path):
    half = tmp_path / "saving" / "checkpoint-9"
    make_checkpoint(half, PLAIN)
    make_checkpoint(tmp_path / "checkpoint-3", PLAIN)
    assert select.newest_checkpoint(tmp_path).name == "checkpoint-3"
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(is_main_process=True), is_deepspeed_enabled=False, is_fsdp_enabled=False
    )
    with atomic_save.staged(trainer, tmp_path / "checkpoint-3", manifest=True) as folder:
        assert (
            list((tmp_path / "saving").iterdir()) == [folder]
            and select.newest_checkpoint(tmp_path).name == "checkpoint-3"
        )
        make_checkpoint(folder, PLAIN, facts={"new": True})
    assert not (tmp_path / "saving").exists()
    assert read_state(tmp_path / "checkpoint-3")["facts"] == {"new": True}
    with (
        pytest.raises(atomic_save.SaveFailed, match=r"checkpoint-5 could not be written: OSError: .* No space left"),
        atomic_save.staged(trainer, tmp_path / "checkpoint-5", manifest=True) as folder,
    ):
        (folder / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3"]


def test_auto_is_the_newest_checkpoint_or_a_new_run(tmp_path, monkeypatch):
    monkeypatch.setattr(select, "run_facts", lambda *args: {})
    args = SimpleNamespace(
        resume_from_checkpoint="auto", output_dir=str(tmp_path), fsdp=None, ignore_data_skip=False,
        resume_unverified=False, resume_changed=None, process_index=0, world_size=1, deepspeed_plugin=None,
    )  # fmt: skip
    plan = lambda: select.plan_resume([], None, args, None, None).checkpoint  # noqa: E731
    assert plan() is None
    make_checkpoint(tmp_path / "checkpoint-1", PLAIN)
    assert plan() == tmp_path / "checkpoint-1"
    (tmp_path / "checkpoint-1" / "optimizer.pt").unlink()
    with pytest.raises(UsageError, match=r"lacks optimizer\.pt"):  # not silently from the start again
        plan()


# ------------------------------------------------------------------------------------------------------- one a folder


def test_a_folder_has_one_run_at_a_time(tmp_path):
    training = SimpleNamespace(output_dir=str(tmp_path), process_index=0)
    with run_lock.only_run(training):
        message = (
            rf"got {tmp_path}, where a run is going on \(process {os.getpid()} on .*\), expected a folder of its own"
        )
        with pytest.raises(UsageError, match=message), run_lock.only_run(training):
            pass
    with run_lock.only_run(training):
        pass


@pytest.mark.parametrize("remade", [False, True])
@pytest.mark.parametrize("move", [lambda out: out.rename(out.with_name("b")), shutil.rmtree])
def test_a_folder_that_leaves_its_path_while_a_run_starts_is_named(tmp_path, move, remade):
    out = tmp_path / "out"
    training = SimpleNamespace(output_dir=str(out), process_index=0)
    with run_lock.only_run(training):
        run_lock.refuse_other_folder(training)
        move(out)
        if remade:
            out.mkdir()
        with pytest.raises(UsageError, match=f"got {out}, which was moved, replaced or deleted while the run started"):
            run_lock.refuse_other_folder(training)


def test_a_run_into_a_folder_in_use_is_refused_before_a_model_is_loaded(tiny, few, tmp_path, monkeypatch):
    monkeypatch.setattr("open_r1.trainer.run.load_model", lambda *a: pytest.fail("a model was loaded"))
    argv = f"--model_name_or_path {tiny} --data_file_paths {few} --image_folders {few.parent} --num_generations 4 "
    argv += f"--per_device_train_batch_size 4 --output_dir {tmp_path}"
    with run_lock.acquire_lock(tmp_path), pytest.raises(SystemExit, match="where a run is going on"):
        grpo_jsonl.main(argv.split())
