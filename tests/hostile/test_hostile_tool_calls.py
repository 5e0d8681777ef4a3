"""Whatever a model writes as a call, and whatever a saved completion holds as one, costs little time and memory."""

import json
import resource
import time
from pathlib import Path

import pytest
from PIL import Image

from open_r1.data.record import Record
from open_r1.score import main
from open_r1.tools.calls import MAX_CALLS
from open_r1.tools.toolbox import make_toolbox

MOST_SECONDS, MOST_BYTES = 20.0, 300e6  # on a busy core; 2 s and 60 MB on an idle one
PICTURE = Image.new("RGB", (640, 480))
ROW = Record("1", (), "", (), "7", {}, "train.jsonl:7")


def zoom(box: str, more: str = "") -> str:
    return f'<tool_call>{{"name": "zoom", "arguments": {{"bbox_2d": {box}{more}}}}}</tool_call>'


CALLS = {
    "a huge box": zoom("[0, 0, 1e300, 1e300]"),
    "a box beyond any float": zoom("[0, 0, 1e400, 1e400]"),
    "a box of digits": zoom(f"[0, 0, {'9' * 19_000}, 9]"),
    "a box from minus to plus": zoom("[-1e18, -1e18, 1e18, 1e18]"),
    "a box without breadth": zoom("[0, 0, 1e-300, 480]"),
    "NaN": zoom("[NaN, 0, 9, 9]"),
    "null": zoom("[null, 0, 9, 9]"),
    "infinity": zoom("[0, 0, Infinity, 9]"),
    "a box of 5,000 numbers": zoom(str([1] * 5_000)),
    "10,000 levels": zoom("[" * 10_000 + "]" * 10_000),
    "9,000 levels of objects": zoom('{"a":' * 3_000 + "1" + "}" * 3_000),
    "a picture far away": zoom("[0, 0, 9, 9]", ', "image": 9007199254740991'),
    "1 MB of label": zoom("[0, 0, 9, 9]", f', "label": "{"x" * 1_000_000}"'),
    "1 MB of JSON": zoom(str([[0] * 10] * 30_000)),
    "10,000 calls": zoom("[0, 0, 9, 9]") * 10_000,
    "16 crops": zoom("[0, 0, 640, 480]") * 16,
}


def peak() -> float:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", CALLS)
def test_a_hostile_call_is_answered_in_bounds(name: str) -> None:
    box = make_toolbox(["zoom"], "", seconds=MOST_SECONDS)
    box.start()
    begun, held = time.monotonic(), peak()
    calls = box.read(CALLS[name])
    answers = box.answer(calls, [PICTURE], ROW)
    assert time.monotonic() - begun < MOST_SECONDS and peak() - held < MOST_BYTES
    assert 1 <= len(answers) <= MAX_CALLS
    if name == "16 crops":
        assert not any(answer.error for answer in answers)
        return
    (answer,) = answers
    assert answer.error and answer.fault is None  # the model's mistake, not the tool's
    assert str(answer.parts[0]).startswith("Error: ") and len(answer.parts[0]) < 1_100


SAVED = {
    "10,000 calls": json.dumps([{"type": "function", "function": {"name": "zoom", "arguments": {}}}] * 10_000),
    "1 MB of arguments": json.dumps([{"function": {"name": "zoom", "arguments": {"label": "x" * 1_000_000}}}]),
    "numbers beyond any float": '[{"function": {"name": "zoom", "arguments": {"bbox_2d": [1e300, -1e300]}}}]',
    "10,000 levels": f'[{{"function": {"[" * 10_000}{"]" * 10_000}}}]',
}


@pytest.mark.parametrize("name", SAVED)
def test_the_script_scores_hostile_calls_in_bounds(name: str, tmp_path: Path) -> None:
    turns = f'{{"role": "assistant", "content": "call", "tool_calls": {SAVED[name]}}}, '
    turns += '{"role": "tool", "name": "zoom", "content": "no", "error": true}, {"role": "assistant", "content": "7"}'
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text(f'{{"completion": [{turns}], "gold": "7"}}\n')
    begun, held = time.monotonic(), peak()
    words = ["--task", "digits", "--rewards", "tool_bonus", "tool_errors", "--rows", str(rows), "--out", str(out)]
    status = main(words)
    assert time.monotonic() - begun < MOST_SECONDS and peak() - held < MOST_BYTES
    if name == "10,000 levels":
        assert status == 1 and "broken JSON" in json.loads(out.read_text())["error"]
    else:
        assert status == 0 and json.loads(out.read_text())["reward_values"]["tool_errors"] == -0.5
