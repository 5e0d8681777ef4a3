"""Two copies of a data folder at different places give the same evaluations, and the same runs of training."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.clips import clip_rows, tiny_with_videos

from open_r1 import grpo_jsonl
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.jsonl_io import read_lines
from open_r1.data.record import Record
from open_r1.evaluation import answering
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.rollout.other_media import OtherMedia
from open_r1.rollout.other_pictures import donor_of
from open_r1.tasks.importers.annotations.annotated_tasks import chosen
from open_r1.trainer.vllm_rollout import VLLMRollouts


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_with_videos(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> list[Path]:
    """Rows about clips in a folder, and in a copy of it elsewhere."""
    own = clip_rows(tmp_path_factory.mktemp("data"), 6)
    other = shutil.copytree(own.parent, tmp_path_factory.mktemp("elsewhere") / "deeper" / "copy")
    return [own, other / own.name]


@pytest.mark.parametrize("view", ["shuffled_frames", "other"])
def test_an_evaluation_shows_and_samples_the_same(model, copies, tmp_path, monkeypatch, view):
    shown: dict[str, list[bytes]] = {}

    def watched(self: OtherMedia, view: str, record: Any, own: Any, donor: Any, plain=OtherMedia.shown) -> Any:
        media = plain(self, view, record, own, donor)
        shown.setdefault(record.folder, []).append(media.videos[0].pixels.tobytes())
        return media

    monkeypatch.setattr(OtherMedia, "shown", watched)
    in_threads = lambda loader, rows, _: answering.load_in_threads(loader, rows)  # noqa: E731
    monkeypatch.setattr(answering, "load_in_processes", in_threads)
    found = []
    for number, rows in enumerate(copies):
        words = ["--model", model, "--data_file_paths", rows, "--image_folders", rows.parent, "--view", view]
        words += ["--output_dir", tmp_path / str(number), "--max_completion_length", 8, "--num_samples", 2]
        run_evaluation(parser_of(None).parse_args([*map(str, words), "--temperature", "1"]))
        lines = read_lines(tmp_path / str(number) / "predictions.jsonl")
        found.append([{name: value for name, value in line.items() if name != "seconds"} for line in lines])
    assert len(found[0]) == 12 and found[0] == found[1]
    assert len(shown) == 2 and len({tuple(frames) for frames in shown.values()}) == 1


@pytest.mark.slow
def test_a_run_samples_the_same(model, copies, tmp_path):
    runs = []
    for number, rows in enumerate(copies):
        out = tmp_path / str(number)
        command = f"--model_name_or_path {model} --data_file_paths {rows} --image_folders {rows.parent}"
        command += f" --output_dir {out} --num_generations 4 --per_device_train_batch_size 8 --max_steps 2"
        command += " --max_completion_length 8 --save_strategy no --report_to none --vision_probe 1 --rollout_groups 9"
        grpo_jsonl.main([*command.split(), "--noisy_rollouts", "0.5", "--disable_tqdm", "true"])
        groups = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
        metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        kept = [
            {n: v for n, v in line.items() if n.startswith(("vision/", "rollouts/", "reward"))} for line in metrics
        ]
        runs.append(([{**group, "where": group["where"].removeprefix(str(rows.parent))} for group in groups], kept))
    assert runs[0][0] and any("vision/shuffled_accuracy" in line for line in runs[0][1])
    assert runs[0] == runs[1]


def engine_seed(record: Record) -> int:
    """The seed of a row's request to vLLM."""
    loader = SimpleNamespace(request=lambda example, count, seed: seed)
    rollouts = SimpleNamespace(args=SimpleNamespace(seed=0), loader=loader)
    return VLLMRollouts.request(rollouts, SimpleNamespace(record=record), 1, "train/0/0")


def test_what_is_drawn_for_a_row_is_drawn_by_its_file_name_and_line(copies):
    rows = [load_records([path], [path.parent]) for path in copies]
    for place in range(6):
        records = [one[place] for one in rows]
        assert len({record.where for record in records}) == 2
        donors = [donor_of(record, among, 0) for record, among in zip(records, rows, strict=True)]
        assert donors[0].id == donors[1].id
        assert len({engine_seed(record) for record in records}) == 1
    labels = [chosen([*"abcdefgh"], 3, record.where) for record in (rows[0][0], rows[1][0])]
    assert labels[0] == labels[1] != chosen([*"abcdefgh"], 3, rows[0][1].where)
