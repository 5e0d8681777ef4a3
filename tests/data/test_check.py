"""The doctor finds every planted defect, no more and no fewer, and leaves the right exit status."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.repository import SHARED as DATA
from PIL import Image
from rich.console import Console

from open_r1 import check
from open_r1.data.summary import Statistics, summary_table
from open_r1.tasks.registry import TASKS


def row(number: int, answer: object = "4", question: str = "<image>2+2?", **fields: object) -> dict:
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": "good.png", "conversations": talk, **fields}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "img"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(images / "good.png")
    (images / "cut.png").write_bytes((images / "good.png").read_bytes()[:-900])
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_text("no image")
    Image.new("1", (9000, 9000)).save(images / "bomb.png")
    (images / "out.png").symlink_to("/etc/hostname")
    return tmp_path


def run(folder: Path, rows: Sequence[object], *flags: str) -> int:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    (folder / "t.jsonl").write_text("\n".join(lines) + "\n")
    return check.main(["--data_file_paths", "t.jsonl", "--image_folders", "img", *flags])


DEFECTS = [
    '{"id": 1, "image": ',  # broken JSON
    row(2, image="gone.png"),
    row(3, image="../secret.png"),
    row(4, image="out.png"),
    row(5, question="<image><image>2+2?"),
    row(6, answer=None),
    {"id": 7, "conversations": [{"from": "robot", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
    row(8, image="cut.png"),
    row(9, image="empty.png"),
    row(10, image="text.png"),
    row(11, image="bomb.png"),
    row(12, answer="not a box", accu_reward_method="rec"),  # a gold answer that its reward cannot read
]
FIELDS = [
    "line",
    "image",
    "image",
    "image",
    "<image>",
    "conversations[1].value",
    "conversations[0].from",
    *["image"] * 4,
    "solution",
]


def test_twelve_planted_defects_are_twelve(folder: Path, capsys: pytest.CaptureFixture) -> None:
    good = [row(100 + i) for i in range(len(DEFECTS))]
    rows = [each for pair in zip(good, DEFECTS, strict=True) for each in pair]  # defects stand on the even lines
    assert run(folder, rows) == 1
    out = capsys.readouterr().out
    assert re.search(r"^12 defects$", out, re.M)
    assert [int(n) for n in re.findall(r"t\.jsonl:(\d+)", out)] == list(range(2, 25, 2))  # in the order of the file
    assert re.findall(r"t\.jsonl:\d+ +│ ([^ ]+)", out) == FIELDS


def test_clean_data_passes_with_a_summary(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [row(1), row(2, kind="k"), row(2), {"problem": "1+1?", "solution": 2, "accu_reward_method": "math"}]
    assert run(folder, rows) == 0
    out = capsys.readouterr().out
    assert "0 defects" in out and "warning: t.jsonl:3: id: '2' was already used in line 2" in out
    for name, value in [
        ("rows", "4"),
        ("unique images", "1"),
        ("images a row", "1: 3, 0: 1"),
        ("extra fields", "kind: 1"),
    ]:
        assert re.search(rf"│ {name} +│ {value} ", out)
    assert re.search(r"│ longer side \(px\) +│ 28-111: 1 ", out)
    assert re.search(r"│ method of the row +│ \(none named\): 3, math: 1 ", out)


@pytest.mark.parametrize(
    ("flags", "status"),
    [([], 0), (["--reward_method", "rec"], 1), (["--task_type", "rec"], 1), (["--task_type", "default"], 0)],
)
def test_the_method_is_that_of_row_then_flag_then_task(folder: Path, flags: list[str], status: int) -> None:
    assert run(folder, [row(1)], *flags) == status  # "4" is no box
    assert run(folder, [row(1, accu_reward_method="default")], *flags) == 0


def test_a_damaged_image_used_twice_is_one_defect(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(folder, [row(1, image="cut.png"), row(2, image="cut.png")]) == 1
    assert "\n1 defect\n" in capsys.readouterr().out


def test_max_rows_limits_images_and_answers_but_no_lines(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [row(1), row(2, image="cut.png"), "{"]
    assert run(folder, rows, "--max_rows", "1") == 1
    assert "\n1 defect\n" in capsys.readouterr().out
    assert run(folder, rows[:2], "--max_rows", "1") == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task_type", "nope"], f"--task_type: got 'nope', expected one of {', '.join(TASKS)}"),
        (["--reward_method", "mqc"], "--reward_method: reward method: got 'mqc', expected one of"),
        (["--max_rows", "0"], "--max_rows: got 0, expected at least 1"),
        (["--image_folder"], "expected one argument"),
        (["--unknown", "1"], "unrecognized arguments"),
    ],
)
def test_usage_errors(folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        run(folder, [row(1)], *flags)
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        ("gone.jsonl", "img", "no such file"),
        ("t.jsonl", "gone", "does not exist"),
        ("t.jsonl", "a:b", "2 entries for 1"),
        ("t.jsonl:", "img", "colon"),
    ],
)
def test_arguments_that_do_not_fit_are_one_defect(
    folder: Path, files: str, folders: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    (folder / "t.jsonl").write_text(json.dumps(row(1)))
    assert check.main(["--data_file_paths", files, "--image_folders", folders]) == 1
    out = capsys.readouterr().out
    assert message in out and "\n1 defect\n" in out


def test_the_summary_shows_prompt_tokens() -> None:
    table = Console(width=120)
    with table.capture() as captured:
        table.print(summary_table(Statistics(tokens=(10,) * 99 + (50,))))
    assert "50% 10, 90% 10, 99% 10, max 50 (of 100 rows)" in captured.get()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "images", "flags"),
    [("coco/rec.jsonl", "coco", ["--task_type", "rec"]), ("superclevr/qa.jsonl", "superclevr/images", [])],
)
def test_real_data_is_clean(file: str, images: str, flags: list[str]) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"../shared/data/{file} is absent")
    assert check.main(["--data_file_paths", str(DATA / file), "--image_folders", str(DATA / images), *flags]) == 0


def test_defects_of_a_kind_are_one_row(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(folder, [row(i, image=f"img/good{i}.png") for i in range(2000)], "--all_defects", "all.jsonl") == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 60 and "2001 defects" in out and "and 1,999 alike" in out
    assert "below which none of 2,000 pictures lies" in out
    assert len((folder / "all.jsonl").read_text().splitlines()) == 2001
