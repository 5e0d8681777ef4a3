"""What `assets/docs/tools.md` shows works as it stands there: the tool, its try-out, the saved completion."""

import json
import re
from pathlib import Path

import pytest
from helpers.repository import REPO
from PIL import Image

from open_r1.data.record import Record
from open_r1.score import main
from open_r1.tools.toolbox import make_toolbox

PAGE = (REPO / "assets" / "docs" / "tools.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def test_the_tool_of_the_page_is_under_30_lines_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(block("python").splitlines()) < 30
    (tmp_path / "my_tools.py").write_text(block("python"))
    monkeypatch.chdir(tmp_path)
    toolbox = make_toolbox(["zoom", "my_tools.py:contrast"], chat_template="", seconds=20)
    scene = Image.linear_gradient("L").convert("RGB").point(lambda level: level // 2)
    call = '<tool_call>{{"name": "contrast", "arguments": {{"image": {}}}}}</tool_call>'
    (answer,) = toolbox.answer(toolbox.read(call.format(1)), [scene], Record("1", (), "", (), ""))
    text, picture = answer.parts
    assert text == "Here it is:" and picture.getextrema()[0] == (0, 255) and scene.getextrema()[0] == (0, 127)
    (refused,) = toolbox.answer(toolbox.read(call.format(2)), [scene], Record("1", (), "", (), ""))
    assert refused.error and refused.parts == ("Error: got picture 2, expected a number from 1 to 1",)


def test_the_try_out_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_tools.py").write_text(block("python"))
    Image.new("RGB", (56, 28)).save(tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python", 1), "tools.md", "exec"), {})
    assert "Here it is:" in capsys.readouterr().out


def test_the_saved_completion_of_the_page_is_scored_by_its_command(tmp_path: Path) -> None:
    rows, out = tmp_path / "completions.jsonl", tmp_path / "scored.jsonl"
    rows.write_text(json.dumps(json.loads(block("json"))))
    command = block("bash", 1).split("open_r1.score ")[1].split()
    places = {"completions.jsonl": str(rows), "scored.jsonl": str(out)}
    assert main([places.get(word, word) for word in command]) == 0
    assert json.loads(out.read_text())["reward_values"] == {"accuracy": 1.0, "tool_bonus": 1.0, "tool_errors": 0.0}


def test_the_refusal_of_the_page_is_the_tools() -> None:
    toolbox = make_toolbox(["zoom"], chat_template="", seconds=20)
    call = toolbox.read('<tool_call>{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 500, 1500]}}</tool_call>')
    record = Record("1", (), "", (), "", {"box_space": "relative_1000"})
    (answer,) = toolbox.answer(call, [Image.new("RGB", (640, 480))], record)
    assert answer.parts[0] in PAGE
