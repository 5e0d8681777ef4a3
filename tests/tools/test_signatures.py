"""A tool's type hints are its schema: what cannot be listed is refused with its line, what does not fit is told."""

from pathlib import Path

import pytest

from open_r1.errors import UsageError
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.registry import TOOLS, load_tool, load_tools
from open_r1.tools.signature import checked_arguments

FILE = '''import functools
from typing import Literal, Optional


def good(images, frame, box: list[float], n: int = 1, how: Literal["a", "b"] = "a", note: Optional[str] = None,
         deep: list[list[int]] | None = None, on: bool = False, ways: list[Literal["a", "b"]] = []):
    """Does it.

    And says so.

    Args:
        box: The box,
            in pixels.
        n (int): How often.
    """


def no_hint(images, box):
    """Does it."""


def bytes_hint(data: bytes):
    """Does it."""


def dict_hint(data: dict[str, int]):
    """Does it."""


def union_hint(data: int | str):
    """Does it."""


def unknown_hint(data: "Missing"):
    """Does it."""


def no_docstring(n: int):
    return n


def stars(*boxes: int):
    """Does it."""


def named(**boxes: int):
    """Does it."""


async def later(n: int):
    """Does it."""


def yields(n: int):
    """Does it."""
    yield n


async def yields_later(n: int):
    """Does it."""
    yield n


def misnamed(images, box: list[float]):
    """Does it.

    Args:
        images: The pictures.
        bos: The box.
    """


def notes(box: list[float], n: int = 1):
    """Does it.

    Args:
        box: The box, in pixels:
            left: comes first.
        n: How often.

    Returns:
        text: The answer.
    """


def nothing():
    """Takes nothing."""


number = 7
half = functools.partial(good, n=2)
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "mine.py"
    path.write_text(FILE)
    return path


def test_the_schema_is_what_chat_templates_list(mine: Path) -> None:
    function = load_tool(f"{mine}:good").schema["function"]
    assert (function["name"], function["description"]) == ("good", "Does it. And says so.")
    assert function["parameters"]["required"] == ["box"]
    assert function["parameters"]["properties"] == {
        "box": {"type": "array", "items": {"type": "number"}, "description": "The box, in pixels."},
        "n": {"type": "integer", "description": "How often."},
        "how": {"type": "string", "enum": ["a", "b"]},
        "note": {"type": "string", "nullable": True},
        "deep": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, "nullable": True},
        "on": {"type": "boolean"},
        "ways": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
    }


def test_the_description_of_an_argument_goes_on_where_it_is_indented_further(mine: Path) -> None:
    described = {one.name: one.description for one in load_tool(f"{mine}:notes").signature.parameters}
    assert described == {"box": "The box, in pixels: left: comes first.", "n": "How often."}


REFUSED = {
    "no_hint": ("parameter box: got no type hint, expected int, float", "write one, such as box: list[float]"),
    "bytes_hint": ("parameter data: got <class 'bytes'>, expected int, float", ""),
    "dict_hint": ("parameter data: got dict[str, int], expected int, float", ""),
    "union_hint": ("parameter data: got int | str, expected int, float", ""),
    "unknown_hint": ("type hints: got NameError", ""),
    "no_docstring": ("docstring: got none, expected one sentence that tells the model what it does", "write it"),
    "stars": ("parameter boxes: got variadic positional, expected a named one", ""),
    "named": ("parameter boxes: got variadic keyword, expected a named one", ""),
    "later": ("function: got an async function or a generator, expected a plain one", ""),
    "yields": ("function: got an async function or a generator, expected a plain one", ""),
    "yields_later": ("function: got an async function or a generator, expected a plain one", ""),
    "misnamed": ("docstring: Args: got bos, expected one of images, box; did you mean 'box'?", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_that_cannot_be_listed_is_refused_with_file_and_line(mine: Path, name: str) -> None:
    line = next(number for number, text in enumerate(FILE.splitlines(), 1) if f"def {name}(" in text)
    with pytest.raises(UsageError) as caught:
        load_tool(f"{mine}:{name}")
    said, remedy = REFUSED[name]
    message = str(caught.value)
    assert message.startswith(f"{mine}:{line}: tool {name}: ") and said in message and message.endswith(remedy)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("zom", "tool: got 'zom', expected one of zoom; did you mean 'zoom'?"),
        ("FILE", "expected FILE:function"),
        ("FILE:missing", "has no function 'missing'"),
        ("FILE:number", "has no function 'number'"),
        ("FILE:half", "got an object of partial, expected a function; write one that calls it"),
        ("no/such.py:f", "tool no/such.py:f: got no/such.py, expected a Python file; correct the path"),
    ],
)
def test_a_tool_that_is_not_there_is_refused(mine: Path, source: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_tool(source.replace("FILE", str(mine)))
    assert said.replace("FILE", str(mine)) in str(caught.value)


BROKEN = {
    "def f(": "SyntaxError",
    "import no_such_module": "No module named",
    "raise SystemExit(0)": "SystemExit",
    "1 / 0": "ZeroDivisionError",
    "open('no such file')": "FileNotFoundError",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_file_that_cannot_be_imported_is_refused_in_one_sentence(code: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{len(code)}.py"
    path.write_text(code)
    with pytest.raises(UsageError, match=f"cannot be imported: .*{BROKEN[code]}.*; mend the file"):
        load_tool(f"{path}:f")


def test_two_tools_of_one_name_are_refused(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(FILE)
    with pytest.raises(ValueError, match=r"--tools: got .* expected each name once; rename one"):
        load_tools([f"{mine}:good", f"{tmp_path / 'other.py'}:good"])
    with pytest.raises(ValueError, match="--tools: got zoom and zoom, expected each name once; leave one out"):
        load_tools(["zoom", "zoom"])


@pytest.mark.parametrize("name", TOOLS)
def test_own_tools_describe_every_argument(name: str) -> None:
    tool = load_tool(name)
    assert all(parameter.description for parameter in tool.signature.parameters)


FITS = [
    ({"box": [1, 2.5]}, {"box": [1.0, 2.5]}),
    ({"box": [], "n": 3.0}, {"box": [], "n": 3}),
    ({"box": [], "note": None}, {"box": [], "note": None}),
    ({"box": [], "note": "x", "how": "b", "on": True}, {"box": [], "note": "x", "how": "b", "on": True}),
    ({"box": [], "deep": [[1], []]}, {"box": [], "deep": [[1], []]}),
]


@pytest.mark.parametrize(("written", "expected"), FITS)
def test_arguments_that_fit_get_their_types(mine: Path, written: dict, expected: dict) -> None:
    found = checked_arguments(load_tool(f"{mine}:good").signature, ToolCall("good", written))
    assert found == expected and [type(found[name]) for name in found] == [type(expected[name]) for name in found]


MISFITS = [
    ({}, "good: box: got none, expected a list of numbers"),
    ({"box": 7}, "good: box: got 7, expected a list of numbers"),
    ({"box": "[1, 2]"}, "good: box: got '[1, 2]', expected a list of numbers"),
    ({"box": ["1"]}, "good: box: got ['1'], expected a list of numbers"),
    ({"box": [True]}, "good: box: got [True], expected a list of numbers"),
    ({"box": [None]}, "good: box: got [None], expected a list of numbers"),
    ({"box": None}, "good: box: got None, expected a list of numbers"),
    ({"box": [float("nan")]}, "good: box: got [nan], expected a list of numbers"),
    ({"box": [float("inf")]}, "good: box: got [inf], expected a list of numbers"),
    ({"box": [10**400]}, "expected a list of numbers, below 1e+300 in size"),
    ({"box": [1e308]}, "good: box: got [1e+308], expected a list of numbers, below 1e+300 in size"),
    ({"box": [], "n": 1.5}, "good: n: got 1.5, expected a whole number"),
    ({"box": [], "n": 2**60}, "good: n: got 1152921504606846976, expected a whole number, of at most 9,007,"),
    ({"box": [], "n": True}, "good: n: got True, expected a whole number"),
    ({"box": [], "n": "1"}, "good: n: got '1', expected a whole number"),
    ({"box": [], "how": "c"}, "good: how: got 'c', expected one of 'a', 'b'"),
    ({"box": [], "note": 7}, "good: note: got 7, expected a text or null"),
    ({"box": [], "on": 1}, "good: on: got 1, expected true or false"),
    ({"box": [], "deep": [1]}, "good: deep: got [1], expected a list of lists of whole numbers or null"),
    ({"box": [], "ways": ["c"]}, "good: ways: got ['c'], expected a list of texts, each one of 'a', 'b'"),
    ({"bok": []}, "good: got argument 'bok', expected box, n, how, note, deep, on, ways; did you mean 'box'?"),
    ({"box": [], "images": []}, "good: got argument 'images', expected box"),
    ({"box": [], "x" * 5000: 1}, "good: got argument 'xxxx"),
    ({"box": [0.5] * 5000 + ["x"]}, "good: box: got [0.5, 0.5"),
]


@pytest.mark.parametrize(("written", "said"), MISFITS)
def test_arguments_that_do_not_fit_are_told_in_one_short_sentence(mine: Path, written: dict, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        checked_arguments(load_tool(f"{mine}:good").signature, ToolCall("good", written))
    assert said in str(caught.value) and len(str(caught.value)) < 300 and "\n" not in str(caught.value)


AS_TEXTS = [
    ({"box": "[1, 2]", "note": "[1]"}, {"box": [1.0, 2.0], "note": "[1]"}),
    ({"box": "[]", "on": "true", "n": "2"}, {"box": [], "on": True, "n": 2}),
]


@pytest.mark.parametrize(("written", "expected"), AS_TEXTS)
def test_texts_of_tagged_forms_are_read_by_the_type(mine: Path, written: dict, expected: dict) -> None:
    assert checked_arguments(load_tool(f"{mine}:good").signature, ToolCall("good", written, as_text=True)) == expected


@pytest.mark.parametrize("text", ["1, 2", "", "[1", "nan", "[" * 3000])
def test_texts_that_are_no_json_are_told(mine: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"good: box: got .*expected a list of numbers"):
        checked_arguments(load_tool(f"{mine}:good").signature, ToolCall("good", {"box": text}, as_text=True))


def test_a_tool_without_arguments_takes_none(mine: Path) -> None:
    signature = load_tool(f"{mine}:nothing").signature
    assert checked_arguments(signature, ToolCall("nothing", {})) == {}
    with pytest.raises(ValueError, match="expected no arguments"):
        checked_arguments(signature, ToolCall("nothing", {"a": 1}))
