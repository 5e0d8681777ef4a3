"""Two evaluations are compared where their settings are alike, and intervals claim no more than their rows allow."""

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import compare as script
import pytest

from open_r1.evaluation.setting_differences import OF_SAMPLING, OF_THE_MODEL, difference_text, different_settings
from open_r1.evaluation.settings import WITHOUT_EFFECT, EvaluationSettings
from open_r1.evaluation.statistics import paired_difference, wilson

BASE = {
    "model": "before",
    "data_file_paths": ["d/val.jsonl"],
    "image_folders": "d",
    "output_dir": Path("a"),
    "tasks": ["rec"],
    "methods": ["iou"],
    "prompt_mode": "think",
    "max_completion_length": 2048,
    "temperature": 1.0,
}
FIELDS = [field.name for field in dataclasses.fields(EvaluationSettings)]
RECORDED = ("data", "prompts", "chat_template", "weights")  # beside the fields, in the summary of an evaluation


def other_value(name: str) -> Any:
    """A value that no field has in BASE or by default."""
    value = getattr(EvaluationSettings(**BASE), name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)) or value is None:
        return (value or 0) + 0.5 if isinstance(value, float) else (value or 0) + 7
    return {"tasks": ["digits"], "methods": ["digits"], "data_file_paths": ["e/val.jsonl"], "by": ["kind"]}.get(
        name, {"prompt_mode": "direct", "output_dir": Path("z")}.get(name, "another")
    )


def evaluation(folder: Path, answers: str = "110", mode: str = "think", **changes: Any) -> Path:
    """A finished evaluation of rows that are right where `answers` has a 1."""
    folder.mkdir()
    recorded = {name: changes.pop(name) for name in RECORDED if name in changes}
    settings = EvaluationSettings(**BASE | changes)
    lines = [
        {"mode": mode, "row": f"val:{n}", "sample": 0, "solution": "1", "right": a == "1", "score": float(a)}
        for n, a in enumerate(answers, 1)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line | {"completion": "x"}) + "\n" for line in lines))
    kept = {"data_file_paths": settings.data_file_paths, "limit": settings.limit}
    summary = {"settings": {**settings.answer_settings(), **recorded, **kept}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def compared(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    script.main()


# ------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize("name", [*FIELDS, *RECORDED])
def test_each_setting_is_compared_unless_it_has_no_effect_or_is_the_models(name, tmp_path, monkeypatch, capsys):
    base = {} if name in FIELDS else {name: "one"}
    a = evaluation(tmp_path / "a", **base)
    b = evaluation(tmp_path / "b", **{name: other_value(name) if name in FIELDS else "two"})
    if name in WITHOUT_EFFECT | OF_THE_MODEL:
        compared(monkeypatch, a, b)
        assert (f"different in A and B: {name}" in capsys.readouterr().out) == (name in OF_THE_MODEL - {"weights"})
        return
    with pytest.raises(SystemExit, match=rf"made differently.*{name}.* against .*--allow_different {name}"):
        compared(monkeypatch, a, b)
    compared(monkeypatch, a, b, "--allow_different", name, "--out", tmp_path / "c.json")
    assert f"different in A and B: {name}" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "c.json").read_text())["different_settings"]) == [name]


def test_the_classes_name_settings_alone():
    assert set(FIELDS) >= WITHOUT_EFFECT | OF_SAMPLING and {*FIELDS, *RECORDED} >= OF_THE_MODEL
    assert not WITHOUT_EFFECT & (OF_THE_MODEL | OF_SAMPLING)


def test_all_that_differs_is_named_at_once_and_may_be_allowed_as_typed(tmp_path, monkeypatch, capsys):
    a, b = evaluation(tmp_path / "a"), evaluation(tmp_path / "b", max_completion_length=48, seed=3, model="after")
    with pytest.raises(SystemExit) as ended:
        compared(monkeypatch, a, b)
    message = str(ended.value)
    assert "max_completion_length 2048 against 48; seed 0 against 3" in message and "model" not in message
    compared(monkeypatch, a, b, *message[message.index("--allow_different") :].split())
    assert "model before against after" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(OF_SAMPLING))
def test_of_greedy_answers_sampling_is_not_compared(name, tmp_path, monkeypatch):
    greedy = {"temperature": 0.0}
    compared(
        monkeypatch,
        evaluation(tmp_path / "a", **greedy),
        evaluation(tmp_path / "b", **greedy, **{name: other_value(name)}),
    )


def test_two_prompt_modes_are_compared_row_by_row_where_that_is_asked_for(tmp_path, monkeypatch, capsys):
    a = evaluation(tmp_path / "a")
    b = evaluation(tmp_path / "b", "100", "direct", prompt_mode="direct")
    compared(monkeypatch, a, b, "--allow_different", "prompt_mode")
    output = capsys.readouterr().out
    assert "think: 3 rows" in output and "right in both 1, in the first alone 1" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--allow_different", "max_completion_lenght"], "did you mean 'max_completion_length'"),
        (["--allow_different", "seed"], "got seed, which is equal in both"),
    ],
)
def test_what_may_differ_must_be_a_setting_that_does(words, message, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=message):
        compared(monkeypatch, evaluation(tmp_path / "a"), evaluation(tmp_path / "b"), *words)


def test_other_files_beside_the_common_ones_are_no_difference(tmp_path, monkeypatch):
    a = evaluation(tmp_path / "a", data="1", prompts={"think val": "Q"})
    more = {"data_file_paths": ["d/val.jsonl", "d/x.jsonl"], "tasks": ["rec", "od"], "methods": ["iou", "od_ap"]}
    b = evaluation(tmp_path / "b", "1101", data="2", prompts={"think val": "Q", "think x": "R"}, **more)
    with pytest.raises(SystemExit, match="expected the same settings: data 1 against 2"):
        compared(monkeypatch, a, b)
    compared(monkeypatch, a, b, "--common")


def test_folders_of_one_name_are_told_apart_and_rows_without_gold_are_left_out(tmp_path, monkeypatch, capsys):
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        lines = evaluation(tmp_path / run / "eval") / "predictions.jsonl"
        with open(lines, "a") as file:
            file.write(
                '{"mode": "think", "row": "val:9", "sample": 0, "solution": null, "right": null, "score": null}\n'
            )
    compared(monkeypatch, tmp_path / "one" / "eval", tmp_path / "two" / "eval")
    output = capsys.readouterr().out
    assert "one/eval" in output and "two/eval" in output and "think: 3 rows" in output


@pytest.mark.parametrize("text", ["[1]", "{", '{"settings": 3}', '{"settings": {"tasks": ["a", "b"]}}'])
def test_a_damaged_summary_is_named(text, tmp_path, monkeypatch):
    (evaluation(tmp_path / "a") / "summary.json").write_text(text)
    with pytest.raises(SystemExit, match=r"summary\.json: got .*expected what an evaluation writes"):
        compared(monkeypatch, tmp_path / "a", evaluation(tmp_path / "b"))


def test_what_one_alone_recorded_is_a_difference():
    assert difference_text(different_settings({"seed": 1}, {})) == "seed 1 against (not recorded)"
    assert difference_text({"view": (None, "shuffled_frames")}) == "view own against shuffled_frames"


# ----------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("only_a", "only_b", "rows", "low", "high"),
    [
        (1, 7, 21, 0.0134, 0.5084),  # Fagerland et al. 2014, table of airway responses: 0.013 to 0.508
        (0, 0, 30, -0.0866, 0.0866),
        (0, 0, 200, -0.0137, 0.0137),
        (0, 30, 30, 0.8169, 1.0),
        (5, 5, 100, -0.0666, 0.0666),
    ],
)
def test_the_interval_of_pairs_is_bonett_and_prices(only_a, only_b, rows, low, high):
    assert interval_of(only_a, only_b, rows) == pytest.approx((low, high), abs=1e-4)


def interval_of(only_a: int, only_b: int, rows: int) -> tuple[float, float]:
    gap = paired_difference([1.0] * only_a + [0.0] * (rows - only_a), [0.0] * (rows - only_b) + [1.0] * only_b)
    return gap.low, gap.high


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.05), (0.02, 0.02), (0.1, 0.1), (0.1, 0.3), (0.0, 0.5)])
def test_the_interval_of_30_pairs_covers_the_truth_as_often_as_it_says(first, second, monkeypatch):
    """Exactly, over all outcomes: in a share of `first` A alone is right, in `second` B alone."""
    monkeypatch.setattr("open_r1.evaluation.statistics.random_signs", lambda *_: 1.0)
    n, covered = 30, 0.0
    for only_a, only_b in itertools.product(range(n + 1), repeat=2):
        equal = n - only_a - only_b
        if equal >= 0 and (first or not only_a):
            chance = math.comb(n, only_a) * math.comb(n - only_a, only_b) * first**only_a * second**only_b
            low, high = interval_of(only_a, only_b, n)
            covered += chance * (1 - first - second) ** equal * (low <= second - first <= high)
    assert covered > 0.94


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [  # Newcombe 1998 (Stat. Med. 17:857), table I, method 3; and rows that are all wrong or all right
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 30, 0.0, 0.1135),
        (30, 30, 0.8865, 1.0),
        (0, 1, 0.0, 0.7935),
    ],
)
def test_the_interval_of_one_accuracy_is_wilsons_also_where_all_rows_are_alike(right, rows, low, high):
    interval = wilson(right, rows)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("answers", "said"), [("000", True), ("111", True), ("100", True), ("110", False)])
def test_equal_rows_leave_a_difference_possible_which_is_said(answers, said, tmp_path, monkeypatch, capsys):
    a, b = evaluation(tmp_path / "a", answers), evaluation(tmp_path / "b", answers if said else "011")
    compared(monkeypatch, a, b)
    output = capsys.readouterr().out
    assert ("no row is right in one alone: with 95 % confidence" in output) == said
    assert "[+0.000, +0.000]" not in output


def test_scores_with_a_wider_range_have_a_wider_interval():
    narrow, wide = paired_difference([0.0] * 9, [0.0] * 9), paired_difference([2.0, -2.0] * 5, [2.0, -2.0] * 5)
    assert wide.high == pytest.approx(4 * paired_difference([0.0] * 10, [0.0] * 10).high) and narrow.high < wide.high
