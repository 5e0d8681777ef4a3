"""Curves and pages are made from files alone, also half-written ones, and show hostile text as text."""

import itertools
import json
import shutil

import pytest
import yaml
from helpers.rollouts import HOSTILE, store
from PIL import Image

import open_r1.report.page as page_module
from open_r1.data.jsonl_io import read_lines
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.report.__main__ import main
from open_r1.report.curves import draw_curves
from open_r1.report.history import read_metrics
from open_r1.report.page import write_report
from open_r1.report.run_folder import flag_differences, read_runs
from open_r1.trainer.outputs.completion_stats import completion_stats


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


def data_of(page: str, name: str) -> dict:
    return json.loads(page.split(f'id="{name}">')[1].split("</script>")[0])


def test_the_page_is_self_contained_and_holds_hostile_text_as_data(folder):
    page = write_report([folder], folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 3 and "alert(" not in page.replace('alert(\\"x\\")', "")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in page and "unsafe-inline" not in page
    (group,) = data_of(page, "data")["groups"]
    assert [c["text"] for c in group["completions"]] == ["<answer>3</answer>", HOSTILE]  # best advantage first
    assert data_of(page, "pictures")["a.png"].startswith("data:image/png;base64,")


def test_rows_by_difficulty_are_a_table_and_name_what_was_never_right(folder):
    assert "Rows by difficulty" not in write_report([folder], folder / "report.html").read_text(encoding="utf-8")
    classes = [{"name": "not seen", "rows": 0, "groups": 0}, {"name": "never right", "rows": 300, "groups": 450}]
    rates = {"step": 9, "rows": 1200, "classes": classes, "never_right": [{"where": "<b>:7", "groups": 4}]}
    (folder / "row_rates.json").write_text(json.dumps(rates))
    page = write_report([folder], folder / "report.html").read_text(encoding="utf-8")
    assert "never right" in page and ">25 %<" in page and ">1.5<" in page and "<dt>&lt;b&gt;:7</dt>" in page


def test_a_picture_that_is_gone_and_numbers_that_are_none_do_not_stop_the_page(folder):
    (folder / "rollout_images" / "a.png").unlink()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('\n{"step": 9, "reward": NaN, "kl": Infinity, "entropy": 0.1}\n')
    page = write_report([folder], folder / "report.html").read_text()
    assert data_of(page, "pictures") == {}
    assert data_of(page, "data")["runs"][0]["columns"]["entropy"][-1] == 0.1


def test_a_folder_without_a_run_is_named(folder, tmp_path, capsys):
    assert main([str(folder), str(tmp_path / "none")]) == 1
    assert "none, without metrics.jsonl, expected the --output_dir of a run" in capsys.readouterr().err


def test_several_runs_share_a_page_and_their_differences_are_listed(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("other"))
    for run, rate in ((folder, 1e-4), (other, 1e-5)):
        flags = {"training": {"learning_rate": rate, "seed": 0, "output_dir": str(run)}}
        (run / "resolved_config.yaml").write_text(yaml.safe_dump(flags))
    runs = read_runs([folder, other])
    assert flag_differences(runs) == {"learning_rate": ["0.0001", "1e-05"]}
    assert main([str(folder), str(other), "--out", str(tmp_path / "two.html")]) == 0
    groups = data_of((tmp_path / "two.html").read_text(), "data")["groups"]
    assert [group["run"] for group in groups] == [0, 1]


def test_a_page_keeps_under_its_bound_and_says_so(folder, monkeypatch):
    line = (folder / "rollouts.jsonl").read_text()
    rows = [{**json.loads(line), "step": step} for step in range(100)]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(page_module, "MAX_BYTES", 10 * len(line))
    page = write_report([folder], folder / "report.html").read_text()
    steps = [group["step"] for group in data_of(page, "data")["groups"]]
    assert 5 <= len(steps) <= 10 and steps[0] == 1 and steps[-3:] == [98, 99, 100]
    assert f"{len(steps)} of 100 stored groups are shown" in page


# ------------------------------------------------------------------------------------------------- stored rollouts


def test_a_group_is_stored_with_what_was_read_and_where_it_lies(tmp_path):
    store(tmp_path, 100, range(1))
    (group,) = read_lines(tmp_path / "rollouts.jsonl")
    best, worst = group["completions"]
    assert group["gold"] == [{"points": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "label": None, "image": 0}]
    assert (
        best["outlines"][0]["points"] == [[0, 0], [1, 0], [1, 1], [0, 1]] and best["parsed"] == "[0.0, 0.0, 8.0, 8.0]"
    )
    assert (worst["outlines"], worst["parsed"], worst["truncated"], worst["tokens"]) == ([], None, True, 8)


def test_a_gold_that_no_grading_reads_may_be_of_any_kind(tmp_path):
    """A user's own reward on rows whose golds are boxes, with a task that expects polygons."""
    with pytest.raises(DataError):
        store(tmp_path, 100, range(1), method="mask_iou")
    store(tmp_path, 100, range(1), method="mask_iou", graded=False)
    (group,) = read_lines(tmp_path / "rollouts.jsonl")
    assert group["gold"] == group["completions"][0]["outlines"] == []
    row = Record("r", (), "", (), "[0, 0, 4, 8]", {"image_wh": [8, 8]}, "a:1", "mask_iou")
    assert completion_stats([row], ["<answer>so</answer>"], [[1]], {1}, graded=False)["parsed"] == ["so"]


def test_rollouts_are_bounded_newest_kept_and_pictures_with_them(tmp_path):
    store(tmp_path, 40, range(100))  # 20 groups; thinned at 26, again after each 6
    groups = read_lines(tmp_path / "rollouts.jsonl")
    steps = [group["step"] for group in groups]
    assert 20 <= len(steps) <= 25 and steps[0] == 0 and steps[-10:] == list(range(90, 100))
    older = [b - a for a, b in itertools.pairwise(steps[:10])]
    assert max(older) < 30  # evenly: 90 steps in 9 gaps of 10
    assert {p.name for p in (tmp_path / "rollout_images").iterdir()} == {name for g in groups for name in g["images"]}


def test_a_resumed_run_counts_what_is_there(tmp_path):
    store(tmp_path, 40, range(24))
    store(tmp_path, 40, range(24, 30))
    assert len(read_lines(tmp_path / "rollouts.jsonl")) <= 25
