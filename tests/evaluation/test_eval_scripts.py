"""Each script of `eval/` on the tiny models and on saved completions, as it is typed."""

import json
import runpy
import shutil
import sys

import pytest
from helpers.repository import REPO
from PIL import Image

from open_r1.data.jsonl_io import read_lines
from open_r1.evaluation.statistics import mcnemar, paired_difference
from open_r1.tasks.importers import downloads

TINY = ["--model", str(REPO / "assets/tiny-vlm"), "--max_completion_length", "6"]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Runs a script in this process, as importing torch takes longer than all of them; returns its summary."""

    def start(name, *words, out=tmp_path / "out"):
        out_words = ["--output_dir", str(out)] if name != "compare" else []
        monkeypatch.setattr(sys, "argv", [name, *map(str, words), *out_words])
        runpy.run_path(str(REPO / f"eval/{name}.py"), run_name="__main__")
        return json.loads((out / "summary.json").read_text()) if name != "compare" else None

    return start


def saved(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------------------------- tasks with generators

MADE = {
    "digits": ("by", "kind"),
    "area": ("mean_score",),
    "decoding": ("chars",),
    "segmentation": ("gIoU", "cIoU", "ceiling"),
    "detection": ("ap", "ap50", "AP", "AP50", "AP75"),
}


@pytest.mark.parametrize("name", MADE)
def test_rows_are_made_answered_and_scored(script, name):
    part = script(name, *TINY, "--rows", 4)["think"]
    assert part["n"] == 4 and 0 <= part["accuracy"] <= 1
    for figure in MADE[name]:
        assert figure in part or figure in part.get("by", {}), part


def test_a_split_that_is_not_made_is_named(script):
    with pytest.raises(SystemExit, match="--split: got 'test', expected one of train, heldout"):
        script("digits", *TINY, "--split", "test")


# ---------------------------------------------------------------------------------- saved completions


def test_the_published_counting_logs_give_the_published_figures(script, shared, tmp_path):
    """R1-V's own logs and scores: 48.0 % and 82.5 %; 45 of the first 200 answers hold no number."""
    rows = [json.loads(line) for line in (shared / "completions/superclevr_counting_logs.jsonl").open()]
    halves = {"before": (rows[:200], 0.48, 0.775), "after": (rows[200:], 0.825, 1.0)}
    for name, (half, accuracy, parsed) in halves.items():
        file = saved(tmp_path / f"{name}.jsonl", half)
        part = script("superclevr", "--from_predictions", file, out=tmp_path / name)["think"]
        assert (part["accuracy"], part["parse_rate"], part["n"]) == (accuracy, parsed, 200)


NOTATIONS = {
    "(10,20),(30,40)": 1.0,
    "[10, 20, 30, 40]": 1.0,
    '```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]\n```': 1.0,
    "<box>(10,20),(30,40)</box>": 1.0,
    "The cat is at (10, 20, 30, 40) in the picture.": 1.0,
    "<answer>(10,20),(30,30)</answer>": 0.5,
    "there is no cat": 0.0,
}


@pytest.mark.parametrize("completion", NOTATIONS)
@pytest.mark.parametrize("gold", [([10, 20, 30, 40], "xyxy"), ([10, 20, 20, 20], "xywh")], ids=["xyxy", "xywh"])
def test_a_box_is_read_in_any_notation_and_a_missing_one_is_wrong(script, tmp_path, completion, gold):
    row = {"completion": completion, "gold": gold[0], "gold_format": gold[1], "image_wh": [100, 80]}
    summary = script("refcoco", "--from_predictions", saved(tmp_path / "a.jsonl", [row]))
    assert summary["think"]["mean_iou"] == NOTATIONS[completion]
    assert summary["think"]["accuracy"] == float(NOTATIONS[completion] > 0.5)
    assert summary["answers_without_a_box"] == int(NOTATIONS[completion] == 0.0)


def test_boxes_are_read_in_the_frame_of_the_family(script, tmp_path):
    """A 640x425 picture: Qwen2.5-VL sees 644x420, Qwen3-VL speaks of thousandths."""
    row = {"gold": [160, 0, 320, 425], "image_wh": [640, 425]}
    texts = {"qwen2_5_vl": "[161, 0, 322, 420]", "qwen3_vl": "[250, 0, 500, 1000]"}
    rows = [row | {"completion": text, "model_family": family} for family, text in texts.items()]
    assert script("refcoco", "--from_predictions", saved(tmp_path / "a.jsonl", rows))["think"]["mean_iou"] == 1.0


BAD = {
    '{"completion": "x"}': "a.jsonl:1: gold",
    '{"completion": 3, "gold": [1, 2, 3, 4]}': "a.jsonl:1: completion",
    "{": "a.jsonl:1: line",
    '{"completion": "[1,2,3,4]", "gold": [1, 2, 3, 4], "model_family": "qwen3_vl"}': "image_wh",
    '{"completion": "[1,2,3,4]", "gold": [1, 2, 3, 4], "gold_format": "yxyx"}': "a.jsonl:1: gold_format: got 'yxyx'",
    "": "got no rows",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_row_is_named_and_nothing_is_written(script, tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(SystemExit, match=BAD[line]):
        script("refcoco", "--from_predictions", file)
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_file_or_a_model_that_is_not_there_is_named(script, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere\.jsonl"):
        script("refcoco", "--from_predictions", tmp_path / "nowhere.jsonl")
    with pytest.raises(SystemExit, match="no-such-model"):
        script("digits", "--model", tmp_path / "no-such-model", "--rows", 2)


def test_detections_of_all_pictures_count_together(script, tmp_path):
    """Two pictures, one gold box each, the second not found: COCO's recall ends at one half, so AP = 51/101."""
    gold = json.dumps([{"bbox_2d": [0, 0, 10, 10], "label": "cat"}])
    rows = [{"completion": text, "gold": gold} for text in (gold, "None")]
    part = script("detection", "--from_predictions", saved(tmp_path / "a.jsonl", rows))["think"]
    assert part["AP"] == part["AP50"] == pytest.approx(51 / 101) and part["ap"] == 0.5


def test_segmentation_sums_pixels_over_pictures(script, tmp_path):
    """A disk of radius 20 answered exactly and one of radius 5 missed: cIoU = area / (area + missed area)."""
    discs = [json.dumps({"centre": [50, 40], "coeffs": [radius, 0], "size": [80, 100]}) for radius in (20, 5)]
    rows = [{"completion": f"<answer>{discs[0]}</answer>", "gold": discs[0]}, {"completion": "?", "gold": discs[1]}]
    part = script("segmentation", "--from_predictions", saved(tmp_path / "a.jsonl", rows))["think"]
    assert part["gIoU"] == 0.5 and part["cIoU"] == pytest.approx(20**2 / (20**2 + 5**2), abs=0.01)
    assert part["ceiling"] == 1.0 and "union" not in part


# ---------------------------------------------------------------------------------- prompt files


@pytest.fixture
def prompts(tmp_path, digits):
    """(R1-V's prompt file of three rows, the folder that its paths start from)."""
    picture = next((digits / "images").glob("*.png"))
    (tmp_path / "images").mkdir()
    for n in range(3):
        shutil.copy(picture, tmp_path / "images" / f"{n}.png")
    rows = [{"image_path": f"./images/{n}.png", "question": "How many?", "ground_truth": n} for n in range(3)]
    return saved(tmp_path / "superclevr_test200_counting_problems.jsonl", rows), tmp_path


@pytest.mark.parametrize("name", ["superclevr", "geoqa"])
def test_prompt_files_of_r1v_are_read_as_they_are(script, prompts, name):
    summary = script(name, *TINY, "--prompt_path", prompts[0], "--image_root", prompts[1], "--prompt_mode", "both")
    assert summary["think"]["n"] == summary["direct"]["n"] == 3
    lines = read_lines(prompts[1] / "out" / "predictions.jsonl")
    assert [line["solution"] for line in lines[:3]] == ["0", "1", "2"]


def test_renders_are_downloaded_once(script, prompts, monkeypatch, tmp_path):
    file, folder = prompts
    downloads_asked = []

    def download(url, path, **options):
        downloads_asked.append(url.rpartition("/")[2])
        if path.suffix == ".jsonl":
            return path if path.exists() else shutil.copy(file, path)
        return shutil.make_archive(str(path.with_suffix("")), "zip", folder, "images")

    monkeypatch.setattr(downloads, "download", download)
    for _ in range(2):
        words = ("--download", "--data_dir", tmp_path / "fetched")
        assert script("superclevr", *TINY, *words)["think"]["n"] == 3
    assert downloads_asked == [file.name, "images.zip", file.name]


@pytest.mark.slow
def test_annotations_in_vlm_r1s_form_and_a_sample(script, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    rows = [
        {"image": "a.jpg", "problem": f"Where is {n}?", "normal_caption": str(n), "solution": [1, 2, 30, 40]}
        for n in range(9)
    ]
    rows[4]["solution"] = None
    (tmp_path / "refcoco_val.json").write_text(json.dumps(rows))
    words = ("--annotations", tmp_path / "refcoco_val.json", "--image_root", tmp_path)
    assert script("refcoco", *TINY, *words)["think"]["splits"]["refcoco_val"]["n"] == 8
    sampled = script("refcoco", *TINY, *words, "--sample", 3, out=tmp_path / "sampled")
    assert sampled["think"]["n"] == 3 and sampled["answers_without_a_box"] == 3


# ---------------------------------------------------------------------------------- compare


def evaluated(script, folder, name, answers):
    rows = [{"completion": f"<answer>{answer}</answer>", "gold": "1"} for answer in answers]
    script("digits", "--from_predictions", saved(folder / "rows.jsonl", rows), out=folder / name)


def test_two_runs_are_compared_row_by_row(script, tmp_path, capsys):
    """Of 8 rows 2 are right in both, 5 in the second alone, 1 in neither: McNemar's p = 2 / 2^5."""
    evaluated(script, tmp_path, "a", "11000000")
    evaluated(script, tmp_path, "b", "11111110")
    capsys.readouterr()
    script("compare", tmp_path / "a", tmp_path / "b", "--show", 1, "--out", tmp_path / "c.json")
    comparison = json.loads((tmp_path / "c.json").read_text())["think"]
    assert [comparison[name] for name in ("rows", "both", "only_a", "only_b", "neither")] == [8, 2, 0, 5, 1]
    assert comparison["accuracy"]["p"] == 2 / 2**5 and comparison["accuracy"]["difference"] == 5 / 8
    output = capsys.readouterr().out
    assert "+0.625" in output and "0.062" in output and "B right: <answer>1</answer>" in output


def test_runs_on_other_rows_are_not_compared(script, tmp_path):
    evaluated(script, tmp_path, "a", "11")
    evaluated(script, tmp_path, "b", "111")
    with pytest.raises(SystemExit, match="2 rows in both and 1 in one alone, expected the same rows"):
        script("compare", tmp_path / "a", tmp_path / "b")
    script("compare", tmp_path / "a", tmp_path / "b", "--common")
    with pytest.raises(SystemExit, match="expected the output folder of an evaluation"):
        script("compare", tmp_path / "a", tmp_path)


def test_equal_runs_do_not_differ():
    assert mcnemar(0, 0) == 1.0
    same = paired_difference([0.5, 1.0], [0.5, 1.0])
    assert (same.mean, same.p) == (0.0, 1.0) and same.low == -same.high < -0.5  # two rows say little


def test_a_clear_difference_is_seen_and_its_interval_covers_it():
    clear = paired_difference([0.0] * 50 + [1.0] * 50, [1.0] * 100)
    assert clear.low > 0.3 and clear.high < 0.7 and clear.mean == 0.5 and clear.p < 0.001
