"""`python -m open_r1.score` end to end: scores, what was read, errors by row, exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.repository import SHARED

from open_r1.score import main


def write(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def scored(tmp_path: Path, rows: list, *how: str) -> tuple[int, list[dict]]:
    source, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    status = main([*how, "--rows", str(source), "--out", str(out)])
    return status, [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "row", "score", "parsed"),
    [
        ("default", {"completion": "<answer>4</answer>", "gold": 4}, 1.0, 4),
        ("default", {"completion": "<answer>B. 4</answer>", "gold": 4}, 0.0, None),
        ("default", {"completion": "a cat", "gold": "A cat."}, 1.0, "a cat"),
        ("math", {"completion": r"<answer>$5\sqrt3$</answer>", "gold": "5√{3}"}, 1.0, r"5\sqrt{3}"),
        ("mcq", {"completion": "12 cm", "gold": "(B)", "options": ["9 cm", "12 cm"]}, 1.0, "B"),
        ("yes_no", {"completion": "Yes, it is.", "gold": "no"}, 0.0, "yes"),
        ("all_match", {"completion": "<think>", "gold": "No Defect"}, 0.0, None),
        ("digits", {"completion": "<answer>[1, 2]</answer>", "gold": [1, 2]}, 1.0, [1, 2]),
        (
            "rec",
            {
                "completion": "[250,0,500,1000]",
                "gold": [160, 0, 320, 425],
                "model_family": "qwen3_vl",
                "image_wh": [640, 425],
            },
            1.0,
            [160.0, 0.0, 320.0, 425.0],
        ),
        ("rec", {"completion": "none", "gold": [160, 0, 320, 425]}, 0.0, None),
        ("default", {"completion": "A", "gold": "A", "accu_reward_method": "mcq"}, 1.0, "A"),
    ],
)
def test_rows_come_back_with_score_and_what_was_read(
    tmp_path: Path, method: str, row: dict, score: float, parsed: object
) -> None:
    status, rows = scored(tmp_path, [row], "--reward_method", method)
    assert (status, rows) == (0, [{**row, "score": score, "parsed": parsed}])


def test_a_task_brings_its_method_and_old_results_are_replaced(tmp_path: Path) -> None:
    status, rows = scored(tmp_path, [{"completion": "7", "gold": "7", "score": 0, "error": "old"}], "--task", "digits")
    assert (status, rows) == (0, [{"completion": "7", "gold": "7", "score": 1.0, "parsed": 7}])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"completion": "4", "gold": None}, "rows.jsonl:2: gold: got null"),
        ({"completion": "4"}, "rows.jsonl:2: gold: got null"),
        ({"gold": "4"}, "rows.jsonl:2: completion: got no such field"),
        ({"completion": 4, "gold": "4"}, "rows.jsonl:2: completion: got 4"),
        ("{broken", "rows.jsonl:2: line: got broken JSON"),
        ("[1]", "rows.jsonl:2: line: got [1]"),
        ({"completion": "[1,2,3,4]", "gold": "[1,2,3]"}, "rows.jsonl:2: solution: got '[1,2,3]'"),
        ({"completion": "[1,2,3,4]", "gold": "[1,2,3,4]", "model_family": "qwen2_vl"}, "rows.jsonl:2: image_wh: got"),
        ({"completion": "A", "gold": "A", "accu_reward_method": "mqc"}, "did you mean 'mcq'"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_scored(
    tmp_path: Path, bad: object, message: str, capsys: pytest.CaptureFixture
) -> None:
    good = {"completion": "[1,2,3,4]", "gold": "[1,2,3,4]"}
    status, rows = scored(tmp_path, [good, bad, "", good], "--reward_method", "rec")
    assert status == 1
    assert [row.get("score") for row in rows] == [1.0, None, 1.0]
    assert message in rows[1]["error"]
    assert rows[1].items() >= (bad.items() if isinstance(bad, dict) else {}.items())
    out, err = capsys.readouterr()
    assert out == "rec: 3 rows, mean score 1.0000, parsed 100.0%, 1 errors\n"
    assert "1 rows with an error" in err


@pytest.mark.slow
def test_the_command_and_its_wrong_arguments(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [{"completion": "4", "gold": "4"}, {"completion": "5", "gold": "4"}])
    command = [sys.executable, "-m", "open_r1.score", "--rows", str(source), "--out", str(tmp_path / "out.jsonl")]
    process = subprocess.run([*command, "--reward_method", "default"], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "default: 2 rows, mean score 0.5000, parsed 100.0%, 0 errors\n")
    for how, message in (
        (["--reward_method", "mqc"], "did you mean 'mcq'"),
        ([], "required"),
        (["--task", "x"], "seg, zoom_digits, or path/to/task.py:TASK; correct the name"),
    ):
        process = subprocess.run([*command, *how], capture_output=True, text=True)
        assert process.returncode == 2
        assert message in process.stderr


def test_missing_file_is_an_argument_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--task", "rec", "--rows", str(tmp_path / "no.jsonl"), "--out", str(tmp_path / "out.jsonl")])
    assert exit_.value.code == 2


def test_r1_v_counting_logs(tmp_path: Path) -> None:
    logs = SHARED / "completions" / "superclevr_counting_logs.jsonl"
    if not logs.exists():
        pytest.skip(f"real data is absent: {logs}")
    rows = [json.loads(line) for line in logs.read_text().splitlines()]
    for trained, share in ((False, 0.48), (True, 0.825)):
        part = [
            {"completion": row["completion"], "gold": row["gold"]}
            for row in rows
            if ("grpo100" in row["source"]) == trained
        ]
        status, out = scored(tmp_path, part, "--reward_method", "default")
        assert (status, sum(row["score"] for row in out) / 200) == (0, share)
