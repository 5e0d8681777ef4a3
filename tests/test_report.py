"""Curves and pages are made from files alone, also half-written ones, and show hostile text as text."""

import json

import pytest
from PIL import Image

from open_r1.report.curves import draw_curves, read_metrics
from open_r1.report.rollouts import write_rollouts

HOSTILE = '<script>alert("x")</script> \ud800 \u2028 {{ 7 * 7 }}'


@pytest.fixture
def folder(tmp_path):
    steps = [
        {"step": s, "reward": s / 4, "rewards/accuracy/mean": s / 5, "completions/mean_length": 9} for s in range(5)
    ]
    text = "".join(json.dumps(line) + "\n" for line in steps)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 5, "rewa')  # a crash cut the last line
    (tmp_path / "rollout_images").mkdir()
    Image.new("RGB", (20, 10), "red").save(tmp_path / "rollout_images" / "a.png")
    group = {
        "step": 1,
        "where": "train.jsonl:3",
        "prompt": "user: <image>How many?",
        "images": ["a.png"],
        "solution": "3",
        "completions": [
            {"text": HOSTILE, "rewards": {"accuracy": 0.0, "mine": None}, "advantage": -0.7},
            {"text": "<answer>3</answer>", "rewards": {"accuracy": 1.0, "mine": 0.5}, "advantage": 0.7},
        ],
    }
    (tmp_path / "rollouts.jsonl").write_text(json.dumps(group) + "\n")
    return tmp_path


def test_a_line_cut_by_a_crash_is_left_out_also_when_a_resumed_run_writes_on(folder):
    assert [line["step"] for line in read_metrics(folder)] == [0, 1, 2, 3, 4]
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 5}\n{"step": 6}\n')
    assert [line["step"] for line in read_metrics(folder)] == [0, 1, 2, 3, 4, 6]


def test_after_a_resume_the_newest_line_of_a_step_wins(folder):
    (folder / "metrics.jsonl").write_text('{"step": 1, "reward": 0.1}\n{"step": 1, "reward": 0.9}\n')
    assert read_metrics(folder) == [{"step": 1, "reward": 0.9}]


def test_curves_are_a_picture(folder):
    with Image.open(draw_curves(folder)) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300


def test_the_page_is_self_contained_and_shows_hostile_text_as_text(folder):
    page = write_rollouts(folder).read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "http" not in page.replace("http-equiv", "") and "default-src 'none'" in page
    assert "data:image/png;base64," in page and "train.jsonl:3" in page
    assert page.index("&lt;answer&gt;3") < page.index("&lt;script&gt;")  # best advantage first


def test_no_rollouts_no_page(tmp_path):
    assert write_rollouts(tmp_path) is None
