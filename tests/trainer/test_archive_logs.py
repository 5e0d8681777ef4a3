"""A new run in the folder of an earlier one has logs of its own; the earlier one's can still be read."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from open_r1 import grpo_jsonl, sft_jsonl
from open_r1.errors import UsageError
from open_r1.report.page import write_report
from open_r1.report.run_folder import read_runs
from open_r1.trainer.checkpointing.select import checkpoints_in
from open_r1.trainer.lifecycle.archive_logs import LOGS, archive_earlier_logs, move_logs
from open_r1.trainer.outputs.callbacks import Curves


def run(out: Path, steps: int, reward: float) -> None:
    """What a run leaves: its logs by `Curves`, and weights."""
    archive_earlier_logs(SimpleNamespace(output_dir=str(out), process_index=0))
    (out / "resolved_config.yaml").write_text(yaml.safe_dump({"training": {"max_steps": steps}}))
    (out / "checkpoint" / "trained").mkdir(parents=True, exist_ok=True)
    (out / f"checkpoint-{steps}").mkdir()
    curves, state = Curves(str(out)), SimpleNamespace(is_world_process_zero=True, log_history=[])
    for state.global_step in range(1, steps + 1):
        curves.on_log(None, state, None, {"reward": reward})
    curves.on_train_end(None, state, None)


def below(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.slow
def test_three_runs_in_a_folder_are_three_runs_to_the_report(tmp_path, caplog):
    for steps in (3, 2, 1):
        run(tmp_path, steps, steps / 10)
    folders = [tmp_path / "earlier" / "1", tmp_path / "earlier" / "2", tmp_path]
    runs = read_runs(folders)
    assert [[line["reward"] for line in one.lines] for one in runs] == [[0.3] * 3, [0.2] * 2, [0.1]]
    assert [one.flags["max_steps"] for one in runs] == [3, 2, 1]
    assert all((one / "report.html").is_file() and (one / "reward_curve.png").is_file() for one in folders)
    assert write_report(folders, tmp_path / "all.html").is_file()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]
    assert (tmp_path / "checkpoint" / "trained").is_dir()
    messages = [message for message in caplog.messages if "held an earlier run" in message]
    assert len(messages) == 2 and f"its logs are now in {folders[1]}. Its checkpoints stay" in messages[1]


def test_all_logs_go_and_a_folder_that_a_trainer_has_made_is_there_again(tmp_path):
    for name in ("rollout_images", "whole_steps", "watchdog", "completions", "checkpoint", "wandb"):
        (tmp_path / name).mkdir()
    for name in (
        "metrics.jsonl",
        "rollouts.jsonl",
        "report.html",
        "reward_curve.png",
        "resolved_config.yaml",
        "row_rates.json",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / ".lock").touch()
    move_logs(tmp_path)
    assert {path.name for path in (tmp_path / "earlier" / "1").iterdir()} == set(LOGS)
    assert {path.name for path in tmp_path.iterdir()} == {"earlier", "checkpoint", "wandb", ".lock", "completions"}


def test_where_no_run_has_logged_nothing_happens(tmp_path):
    (tmp_path / "resolved_config.yaml").write_text("training: {}")
    before = below(tmp_path)
    move_logs(tmp_path)
    assert below(tmp_path) == before


@pytest.mark.parametrize("fault", ["rollouts.jsonl", "earlier"])
def test_a_move_that_fails_says_so_and_leaves_all_as_it_was(tmp_path, monkeypatch, fault):
    for name in ("metrics.jsonl", "rollouts.jsonl", "report.html"):
        (tmp_path / name).write_text(name)
    (tmp_path / "rollout_images").mkdir()
    if fault == "earlier":
        (tmp_path / "earlier").write_text("a file")
    else:
        (tmp_path / "earlier").mkdir()
    plain = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == tmp_path / fault:
            raise PermissionError(13, "Permission denied")
        return plain(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    before = below(tmp_path)
    with pytest.raises(UsageError, match=r"expected to move the logs of the earlier run there to .*earlier/1; free"):
        move_logs(tmp_path)
    assert below(tmp_path) == before


@pytest.mark.slow
def test_sft_goes_on_from_a_grpo_run_in_its_folder_and_a_resumed_run_moves_nothing(tiny, digits, tmp_path):
    common = f"--data_file_paths {digits / 'train.jsonl'} --image_folders {digits} --task_type digits --bf16 false"
    common += f" --output_dir {tmp_path} --report_to none --disable_tqdm true --gradient_checkpointing false"
    grpo = f"{common} --model_name_or_path {tiny} --num_generations 4 --per_device_train_batch_size 4"
    grpo += " --max_completion_length 8 --max_steps 2 --save_steps 2 --log_completions true"
    sft = f"{common} --model_name_or_path {tmp_path / 'checkpoint'} --max_steps 1 --save_strategy no"

    def logged(folder: Path) -> list[int]:
        return [line["step"] for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]

    grpo_jsonl.main(grpo.split())
    grpo_jsonl.main(grpo.split())
    first, second = tmp_path / "earlier" / "1", tmp_path / "earlier" / "2"
    assert logged(first) == logged(tmp_path) == [1, 2, 2]
    assert {path.name for path in first.iterdir()} == set(LOGS) - {"row_rates.json"}  # of --row_sampling difficulty
    assert len(list((tmp_path / "completions").iterdir())) == len(list((first / "completions").iterdir())) == 2
    grpo_jsonl.main([*grpo.split(), "--max_steps", "3", "--resume_from_checkpoint", "true"])
    assert logged(tmp_path)[-2:] == [3, 3] and not second.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.jsonl").write_text('{"step": 7}\n')
    elsewhere = ["--output_dir", str(tmp_path / "other"), "--resume_from_checkpoint", str(tmp_path / "checkpoint-2")]
    grpo_jsonl.main([*grpo.split(), "--max_steps", "3", *elsewhere])
    assert logged(tmp_path / "other") == [3, 3] and logged(tmp_path / "other" / "earlier" / "1") == [7]
    sft_jsonl.main(sft.split())
    assert logged(tmp_path) == [1, 1] and logged(second)[-1] == 3 and not (tmp_path / "rollouts.jsonl").exists()
    assert yaml.safe_load((second / "resolved_config.yaml").read_text())["training"]["max_steps"] == 3
