"""Tools run in workers: whatever one does, its message becomes the answer, other rows go on, and limits hold."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from open_r1.data.record import Record
from open_r1.errors import RunEnded, UsageError
from open_r1.tools.answering import answering
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.calls import MalformedCall
from open_r1.tools.limits import ToolLimits
from open_r1.tools.sandboxed import RETURNS
from open_r1.tools.toolbox import ToolAnswer, Toolbox, make_toolbox

FILE = '''import os, sys, time
from PIL import Image


class Text(str):
    pass


def hello(images, name: str = "you") -> str:
    """Says hello."""
    images.clear()
    return "hello " + name

def sizes(images):
    """Says the sizes of the pictures."""
    return " ".join(f"{image.width}x{image.height}" for image in images)

def picture(images, width: int, height: int, mode: str = "RGB"):
    """Returns a picture."""
    return Image.new(mode, (width, height))

def both(images):
    """Returns a text and two pictures."""
    return [Text("first"), Image.new("L", (30, 40)), "second", Image.new("RGBA", (50, 60))]

def meets(folder: str, number: int) -> str:
    """Returns when so many calls are at work."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < number:
        time.sleep(0.01)
    return "met"

def nap(images):
    """Sleeps for a while."""
    time.sleep(0.6)
    return "awake"

def hangs(images):
    """Hangs."""
    time.sleep(3600)

def spins(images):
    """Spins."""
    while True: pass

def exits(images):
    """Exits."""
    os._exit(0)

def quits(images):
    """Quits."""
    sys.exit("enough")

def eats(images):
    """Eats memory."""
    return bytearray(10**11)

def prints(images):
    """Prints."""
    print("aloud"); return "quiet"

def leaves(folder: str):
    """Says where it is, and leaves."""
    here = os.getcwd(); os.chdir(folder); return here

def forks():
    """Forks, and comes back twice."""
    return "parent" if os.fork() else "child"

def refuses(images):
    """Refuses."""
    raise ValueError("not this one")

def refuses_silently(images):
    """Refuses."""
    raise ValueError

def raises(images):
    """Raises."""
    raise KeyError("the wanted key")

def surrogate(images):
    """Returns a lone surrogate."""
    return "a\\ud800b"

def returns_none(images):
    """Returns None."""

def returns_dict(images):
    """Returns a dict."""
    return {"a": 1}

def returns_nested(images):
    """Returns a list in a list."""
    return [["a"]]

def writes_much(images):
    """Returns 1 MB."""
    return "a" * 1_000_000

def draws_much(images):
    """Returns many pictures."""
    return [Image.new("RGB", (30, 30))] * 17

def unsendable(images):
    """Raises what cannot be sent."""
    raise type("Odd", (Exception,), {"__str__": lambda self: "odd"})()
'''
PICTURE = Image.new("RGB", (640, 480))
NAMES = [line.split("def ")[1].split("(")[0] for line in FILE.splitlines() if line.startswith("def ")]


def row(**extra: object) -> Record:
    return Record("1", (), "", (), "7", extra, "train.jsonl:7")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("tools") / "mine.py"
    path.write_text(FILE)
    return [f"{path}:{name}" for name in NAMES]


@pytest.fixture(scope="module")
def box(mine: list[str]) -> Toolbox:
    toolbox = make_toolbox(["zoom", *mine], "", seconds=60, memory_gb=0.3)
    toolbox.start()
    return toolbox


HANGS = ("hangs", "spins")


def ask(box: Toolbox, tool: str, **arguments: object) -> ToolAnswer:
    (answer,) = box.answer([ToolCall(tool, arguments)], [PICTURE], row())
    return answer


def said(answer: ToolAnswer) -> Sequence[str]:
    return [part if isinstance(part, str) else f"{part.mode} {part.width}x{part.height}" for part in answer.parts]


ANSWERS = {
    "hello": (["hello you"], {}),
    "sizes": (["640x480"], {}),
    "both": (["first", "RGB 30x40", "second", "RGB 50x60"], {}),
    "prints": (["quiet"], {}),
    "surrogate": (["a?b"], {}),
    "picture": (["RGB 28x56"], {"width": 14, "height": 28}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_texts_and_pictures_come_back_plain(box: Toolbox, name: str) -> None:
    expected, arguments = ANSWERS[name]
    answer = ask(box, name, **arguments)
    assert (said(answer), answer.error, answer.fault) == (expected, False, None)
    assert all(type(part) in (str, Image.Image) for part in answer.parts)


FAULTS = {
    "hangs": "Error: hangs gave no answer within 2 s",
    "spins": "Error: spins gave no answer within 2 s",
    "exits": "Error: exits ended its process, or needed more memory than it may use",
    "eats": "Error: eats ended its process, or needed more memory than it may use",
    "quits": "Error: SystemExit: enough",
    "raises": "Error: KeyError: 'the wanted key'",
    "unsendable": "Error: Odd: odd",
    "returns_none": f"Error: UnusableAnswer: returned None, {RETURNS}",
    "returns_dict": f"Error: UnusableAnswer: returned {{'a': 1}}, {RETURNS}",
    "returns_nested": f"Error: UnusableAnswer: returned ['a'], {RETURNS}",
    "writes_much": "Error: UnusableAnswer: returned 1,000,000 characters and 0 pictures, "
    "expected at most 20,000 and 16",
    "draws_much": "Error: UnusableAnswer: returned 0 characters and 17 pictures, expected at most 20,000 and 16",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_tools_fault_becomes_the_answer_and_the_next_call_works(box: Toolbox, name: str) -> None:
    answer = ask(replace(box, seconds=2) if name in HANGS else box, name)
    assert said(answer) == [FAULTS[name]] and answer.error and answer.fault == FAULTS[name].removeprefix("Error: ")
    assert said(ask(box, "hello", name="again")) == ["hello again"]


@pytest.mark.parametrize(("name", "message"), [("refuses", "not this one"), ("refuses_silently", "ValueError")])
def test_a_refusal_is_told_and_no_fault(box: Toolbox, name: str, message: str) -> None:
    answer = ask(box, name)
    assert (said(answer), answer.error, answer.fault) == ([f"Error: {message}"], True, None)


PICTURES = [
    ((0, 10), "picture of 0x10 pixels"),
    ((10_000, 10), "picture of 10000x10 pixels"),
    ((20_000, 20_000), ""),  # 1.2 GB: over the memory limit, or over the limit of pixels
]


@pytest.mark.parametrize(("size", "message"), PICTURES)
def test_pictures_that_no_processor_takes_are_the_tools_fault(
    box: Toolbox, size: tuple[int, int], message: str
) -> None:
    answer = ask(box, "picture", width=size[0], height=size[1])
    assert answer.fault is not None and message in answer.fault and not answer.pictures


def test_a_large_picture_is_scaled_down_to_the_limit_of_pixels(mine: list[str]) -> None:
    small = make_toolbox(mine, "", ToolLimits(pixels=112 * 56), seconds=20)
    assert said(ask(small, "picture", width=1120, height=560)) == ["RGB 112x56"]
    assert said(ask(small, "picture", width=56, height=28, mode="CMYK")) == ["RGB 56x28"]


def test_the_row_is_named_and_the_run_ends_where_errors_stop_it(mine: list[str]) -> None:
    strict = make_toolbox(mine, "", seconds=20, errors="stop")
    with pytest.raises(RunEnded, match=r"train\.jsonl:7: tool .*:raises: KeyError: 'the wanted key'"):
        ask(strict, "raises")
    assert ask(strict, "refuses").error and ask(strict, "no such tool").error and ask(strict, "hello", nme="x").error


def test_the_first_fault_of_a_tool_is_logged_with_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "late.py").write_text('def late():\n    """Fails."""\n    return 1 / 0\n')
    box = make_toolbox([f"{tmp_path / 'late.py'}:late"], "", seconds=20)
    with caplog.at_level(logging.WARNING):
        answers = [ask(box, "late"), ask(box, "late")]
    assert [answer.fault for answer in answers] == ["ZeroDivisionError: division by zero"] * 2
    assert caplog.text.count("Traceback") == 1 and "late.py" in caplog.text and "return 1 / 0" in caplog.text


def test_a_tool_that_changes_its_folder_leaves_paths_of_later_calls_as_they_are(
    mine: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(mine[0].rpartition(":")[0]).parent)
    near = make_toolbox(["mine.py:leaves", "mine.py:hello"], "", seconds=20, workers=1)
    near.start()
    here = str(Path.cwd())
    assert [said(ask(near, "leaves", folder=str(tmp_path))) for _ in range(2)] == [[here], [here]]
    assert said(ask(near, "hello")) == ["hello you"]


def test_a_child_that_a_call_forked_answers_no_call(mine: list[str]) -> None:
    alone = make_toolbox([one for one in mine if one.endswith((":forks", ":hello"))], "", seconds=20, workers=1)
    alone.start()
    assert [said(ask(alone, "forks")) for _ in range(20)] == [["parent"]] * 20
    assert said(ask(alone, "hello")) == ["hello you"]


MISUSES = [
    (MalformedCall("got x, expected JSON"), "", "Error: got x, expected JSON"),
    (ToolCall("zom", {}), "zom", "Error: got tool 'zom', expected zoom, "),
    (ToolCall("z" * 1_000_000, {}), None, "Error: got tool 'zzz"),
    (ToolCall("zoom", {"bbox_2d": 7}), "zoom", "Error: zoom: bbox_2d: got 7, expected a list of numbers"),
    (ToolCall("zoom", {}), "zoom", "Error: zoom: bbox_2d: got none, expected a list of numbers"),
    (ToolCall("sizes", {"images": []}), "sizes", "Error: sizes: got argument 'images', expected no arguments"),
]


@pytest.mark.parametrize(("call", "name", "message"), MISUSES)
def test_a_misused_call_is_told_what_was_expected(
    box: Toolbox, call: ToolCall, name: str | None, message: str
) -> None:
    (answer,) = box.answer([call], [PICTURE], row())
    assert answer.error and answer.fault is None and str(answer.parts[0]).startswith(message)
    assert len(answer.parts[0]) < 1_100 and (name is None or answer.name == name)


def test_later_calls_of_a_turn_see_the_pictures_of_earlier_ones(box: Toolbox) -> None:
    calls = [ToolCall("sizes", {}), ToolCall("both", {}), MalformedCall("no"), ToolCall("sizes", {})]
    answers = box.answer(calls, [PICTURE], row())
    assert [said(answer)[0] for answer in answers] == ["640x480", "first", "Error: no", "640x480 30x40 50x60"]


@pytest.mark.slow
def test_rows_are_answered_at_once(box: Toolbox) -> None:
    ask(box, "nap")
    begun = time.monotonic()
    with answering(box) as begin:
        asked = [begin([ToolCall(name, {})], [PICTURE], row()) for name in ("nap", "nap", "hello")]
        assert [said(one.result()[0]) for one in asked] == [["awake"], ["awake"], ["hello you"]]
    assert time.monotonic() - begun < 60  # 0.8 s on two idle cores


def test_as_many_rows_are_answered_at_once_as_there_are_workers(box: Toolbox, tmp_path: Path) -> None:
    wide, call = replace(box, workers=6), ToolCall("meets", {"folder": str(tmp_path), "number": 6})
    with answering(wide) as begin:
        asked = [begin([call], [PICTURE], row()) for _ in range(6)]
        assert [said(one.result()[0]) for one in asked] == [["met"]] * 6


@pytest.mark.slow
def test_one_row_that_hangs_does_not_keep_others(box: Toolbox) -> None:
    names = ["hangs", "hello", "exits", "hello", "raises", "hello"]
    with answering(replace(box, seconds=5)) as begin:
        asked = [begin([ToolCall(name, {})], [PICTURE], row()) for name in names]
        assert [one.result()[0].error for one in asked] == [True, False] * 3


def test_what_waits_for_a_worker_is_dropped_when_a_rollout_fails(box: Toolbox) -> None:
    ask(box, "hello")
    with pytest.raises(ZeroDivisionError), answering(box) as begin:
        asked = [begin([ToolCall("nap", {})], [PICTURE], row()) for _ in range(200)]
        raise ZeroDivisionError
    assert all(one.done() for one in asked) and sum(one.cancelled() for one in asked) >= 10


def test_a_file_that_no_worker_can_load_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text('import multiprocessing\n\ndef f():\n    """Works."""\n')
    box = make_toolbox([f"{path}:f"], "")
    path.write_text("raise RuntimeError('only in the trainer')\n")
    with pytest.raises(UsageError, match="no worker process can load it"):
        box.start()


LIMITS = [
    ((0, 0, 1), None),
    ((1, 1, 1), None),
    ((2, 0, 0), "max_tool_turns 2"),
    ((1, 2, 2), "max_tool_images 3"),
    ((1, 3, 0), None),
    ((1, 3, 1), "max_tool_images 3"),
]


@pytest.mark.parametrize(("used", "reached"), LIMITS)
def test_an_answer_over_a_limit_is_kept_out_by_its_name(used: tuple[int, int, int], reached: str | None) -> None:
    assert ToolLimits(turns=2, images=3).reached(*used) == reached
