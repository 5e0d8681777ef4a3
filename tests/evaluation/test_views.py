"""Rows with videos are answered in every view, through the evaluator and by the probe of training."""

import json
from collections import Counter
from pathlib import Path

import pytest
from helpers.clips import clip_rows, tiny_with_videos
from helpers.trainers import make_trainer, rows

from open_r1.data.jsonl_io import read_lines
from open_r1.errors import UsageError
from open_r1.evaluation import answering
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.evaluation.comparison import compare, read_rows
from open_r1.rollout.other_media import OtherMedia
from open_r1.trainer.checks import vision_probe


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_with_videos(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Four clips, and a row of text."""
    path = clip_rows(tmp_path_factory.mktemp("clips"), 4)
    with open(path, "a") as file:
        file.write(json.dumps({"id": "text", "problem": "1 + 1?", "solution": "2"}) + "\n")
    return path


def evaluate(model: Path, clips: Path, out: Path, *more: object) -> dict:
    words = ["--model", model, "--data_file_paths", clips, "--image_folders", clips.parent, "--output_dir", out]
    words += ["--max_completion_length", 8, *more]
    return run_evaluation(parser_of(None).parse_args(list(map(str, words))))


def test_each_view_of_videos_is_answered_and_rows_without_it_are_left_out(model, clips, tmp_path, monkeypatch):
    seen = {}

    def watched(self, view, record, own, donor, shown=OtherMedia.shown):
        media = shown(self, view, record, own, donor)
        if media.videos:
            seen.setdefault(view, []).append((own.videos[0].pixels != media.videos[0].pixels).any())
        return media

    monkeypatch.setattr(OtherMedia, "shown", watched)
    monkeypatch.setattr(
        answering, "load_in_processes", lambda loader, rows, _: answering.load_in_threads(loader, rows)
    )
    for view in ("own", "other", "shuffled_frames"):
        summary = evaluate(model, clips, tmp_path / view, "--view", view)
        lines = read_lines(tmp_path / view / "predictions.jsonl")
        assert (len(lines), summary.get("left_out")) == ((5, None) if view == "own" else (4, 1))
        assert summary["settings"].get("view") == (None if view == "own" else view)
    assert {view: set(changed) for view, changed in seen.items()} == {
        "own": {False},
        "other": {True},
        "shuffled_frames": {True},
    }
    own, shuffled = (read_rows(tmp_path / view) for view in ("own", "shuffled_frames"))
    assert compare(own, shuffled, [*shuffled])["think"]["rows"] == 4


def test_a_view_that_no_row_has_is_refused_before_a_model_is_loaded(tmp_path):
    rows = tmp_path / "text.jsonl"
    rows.write_text(json.dumps({"problem": "1 + 1?", "solution": "2"}) + "\n")
    for view, lack in (("shuffled_frames", "a video"), ("blank", "a picture and a video"), ("other", "another row")):
        with pytest.raises(UsageError, match=f"--view: got {view}, but all rows are without {lack}"):
            evaluate(tmp_path, rows, tmp_path / "out", "--view", view)
    with pytest.raises(SystemExit):
        evaluate(tmp_path, rows, tmp_path / "out", "--view", "backwards")


def test_the_probe_of_training_measures_what_needs_the_order_of_frames(model, clips, tmp_path):
    flags = ("--max_steps", "1", "--gradient_accumulation_steps", "1", "--vision_probe", "1")
    trainer = make_trainer(str(model), clips, tmp_path, *flags, "--per_device_train_batch_size", "12")
    seen = Counter()

    def accuracy(completions, record, **_):
        """Right about its own clip; blank and another's never; with shuffled frames one row of two."""
        scores = []
        for row in record:
            scores.append((1.0, 0.0, 0.0, float(row.id == "1"))[seen[row.id]])
            seen[row.id] += 1
        return scores

    trainer.reward_funcs.append(accuracy)
    trainer.model.train()
    trainer.batch = trainer.new_batch(rows(0, 1, 4))  # two clips, and text
    views = vision_probe.views_of(trainer, trainer.batch.examples)
    assert [view.shuffled is not None for view in views] == [True, True, False]
    assert all(view.blank.prompt.ids.equal(view.own.prompt.ids) for view in views[:2])
    vision_probe.log_accuracies(trainer, views)
    metrics = trainer._metrics["train"]
    names = ("accuracy", "blind_accuracy", "swapped_accuracy", "shuffled_accuracy", "ordered_accuracy")
    assert [metrics[f"vision/{name}"] for name in names] == [[1.0], [0.0], [0.0], [0.5], [1.0]]
