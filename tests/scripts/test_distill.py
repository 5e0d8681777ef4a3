"""local_scripts/distill_r1.py: scenes to questions, and what a fake reasoning model's traces become."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cpu_time import cpu_seconds
from helpers.fake_endpoint import FakeEndpoint, Reply, serving, text_of
from helpers.repository import REPO

from open_r1.data.jsonl_dataset import load_records
from open_r1.rewards.gold import gold_score
from open_r1.rewards.parsing.answer import has_think_format

SCRIPT = REPO / "local_scripts" / "distill_r1.py"
spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def thing(size: str, color: str, material: str, shape: str) -> dict[str, str]:
    return {"size": size, "color": color, "material": material, "shape": shape, "3d_coords": [0, 0, 0]}


OBJECTS = [
    thing("large", "red", "metal", "cube"),
    thing("small", "red", "rubber", "cube"),
    thing("small", "blue", "rubber", "sphere"),
]


def scenes(n: int) -> list[dict]:
    return [{"image_filename": f"CLEVR_{i}.png", "image_index": i, "objects": OBJECTS[: 1 + i % 3]} for i in range(n)]


def write(folder: Path, rows: list[dict]) -> Path:
    path = folder / "scenes.json"
    path.write_text(json.dumps({"info": {}, "scenes": rows}))
    return path


@pytest.fixture
def distil(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """The script's main in this process: `distil(server, scenes, *flags)` gives status and output."""

    def call(server: FakeEndpoint, path: Path, *flags: object) -> tuple[object, str]:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        try:
            status = script.main(
                [str(a) for a in (path, "--model", "m", "--out", path.with_name("out.jsonl"), *flags)]
            )
        except SystemExit as stop:
            status = stop.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return call


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def total(request: dict) -> int:
    """How many objects a request's prompt lists."""
    return text_of(request["messages"][0]).count("- a ")


def test_traces_become_lines_for_sft(distil, tmp_path):
    def replies(request: dict, served: int) -> Reply:
        thought = "The scene description lists them. I count."
        count = total(request)
        if count == 1:  # a server that returns reasoning beside the text, and one that does not
            return Reply(f"<answer>{count}</answer>", reasoning=thought)
        return Reply(f"<think>{thought}</think>\nSo: <answer> {count} </answer>")

    with serving(replies) as server:
        status, out = distil(server, write(tmp_path, scenes(2)), "--by_attribute", 0)
    assert status == 0 and "2 rows: kept 2, rejected 0; 2 answers asked for" in out
    thought = "<think>\nThe image shows them. I count.\n</think>"
    assert lines(tmp_path / "out.jsonl") == [
        {
            "id": f"CLEVR_{i}-0",
            "image": f"CLEVR_{i}.png",
            "conversations": [
                {"from": "human", "value": "<image>How many different items are there in the image?"},
                {"from": "gpt", "value": f"{thought}\n<answer>{i + 1}</answer>"},
            ],
        }
        for i in range(2)
    ]
    for i in range(2):
        (tmp_path / f"CLEVR_{i}.png").write_bytes(b"")
    for record in load_records(str(tmp_path / "out.jsonl"), str(tmp_path)):
        assert has_think_format(record.solution) and gold_score(record) == (1.0, 1.0)
    prompt = text_of(max(server.requests, key=total)["messages"][0])
    assert "- a large red metal cube\n- a small red rubber cube\n\nHow many different items" in prompt


def test_only_true_counts_with_a_clean_trace_are_kept(distil, tmp_path):
    said = {
        "right": Reply("<think>One, two, three.</think><answer>3</answer>"),
        "wrong answer": Reply("<think>Two.</think><answer>2</answer>"),
        "no answer": Reply("<think>One, two"),
        "no trace": Reply("<answer>3</answer>"),
        "no trace 2": Reply("<answer>3</answer>", reasoning="so <answer>3</answer>"),
        "speaks of a text": Reply("<answer>3</answer>", reasoning="They describe three."),
    }
    rows = [
        {"image_filename": f"{i}.png", "objects": [*OBJECTS[:2], thing("big", f"c{i}", "m", "s")]} for i in range(6)
    ]

    def replies(request: dict, served: int) -> Reply:
        return list(said.values())[int(re.search(r"big c(\d)", text_of(request["messages"][0]))[1])]

    with serving(replies) as server:
        _, out = distil(server, write(tmp_path, rows), "--by_attribute", 0)
    assert "kept 1, rejected 5 (no answer 1, no trace 2, speaks of a text 1, wrong answer 1)" in out
    assert lines(tmp_path / "out.jsonl")[0]["id"] == "0-0"
    rejected = lines(tmp_path / "out.rejected.jsonl")
    assert [row["reason"] for row in rejected] == [re.sub(r" \d$", "", name) for name in list(said)[1:]]
    assert rejected[0]["where"].endswith("scenes.json:scenes[1]") and "is 3" in rejected[0]["details"]


@pytest.mark.parametrize(
    ("trace", "seen"),
    [
        ("The scene description lists 2 cubes.", "The image shows 2 cubes."),
        ("According to the given text description of the scene, yes.", "According to the image, yes."),
        ("the provided text mentions a cube", "the image shows a cube"),
        ("The text says: red. The description doesn't.", "The image shows: red. The image doesn't."),
        ("I go through this list of objects as listed.", "I go through the image as shown."),
        ("The image tells me that; the objects described are", "The image shows that; the objects shown are"),
        ("A red cube, a context, no contextual clue.", "A red cube, a context, no contextual clue."),
    ],
)
def test_a_trace_speaks_of_the_image(trace, seen):
    assert script.as_if_seen(trace) == seen


def test_rewriting_a_long_trace_is_quick():
    text = "the given provided above original scene " * 3_000
    assert cpu_seconds(lambda: script.as_if_seen(text), 1) < 1


def test_questions_depend_on_seed_and_scene_alone_and_count_truly():
    many = [{"image_filename": f"{i}.png", "objects": OBJECTS} for i in range(60)]
    asked = [script.questions(scene, "", 7, 3) for scene in many]
    assert asked == [script.questions(scene, "", 7, 3) for scene in reversed(many)][::-1]
    assert asked != [script.questions(scene, "", 8, 3) for scene in many]
    counts: Counter[int] = Counter()
    for questions in asked:
        assert (questions[0].text, questions[0].count) == (script.COUNT_ALL_QUESTION, 3)
        assert len({question.text for question in questions}) == len(questions) == 4
        for question in questions[1:]:
            words = question.text.removeprefix("How many ").removesuffix(" are there in the image?").split()
            wanted = {word.removesuffix("s") for word in words} - {"thing"}
            true = sum(wanted <= set(map(str, item.values())) for item in OBJECTS)
            assert question.count == true
            counts[true] += 1
    assert set(counts) == {0, 1, 2}  # "small red spheres" are there too: none


def test_a_scene_of_equal_objects_has_as_many_questions_as_it_can():
    scene = {"image_filename": "a.png", "objects": [OBJECTS[0]] * 4}
    asked = script.questions(scene, "", 0, 50)
    assert {question.count for question in asked} == {4}
    assert len(asked) == 1 + 4 + 6  # the total, 4 single attributes, 6 pairs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"scene', "scenes.json: scenes: got JSONDecodeError"),
        ("{}", "scenes.json: scenes: got KeyError"),
        ('{"scenes": [{"objects": []}]}', "scenes.json:scenes[0]: image_filename: got None"),
        ('{"scenes": [{"image_filename": "a.png", "objects": []}]}', "scenes[0]: objects: got []"),
        (
            json.dumps({"scenes": [{"image_filename": "a.png", "objects": [{**OBJECTS[0], "color": 3}]}]}),
            "scenes[0]: objects[0].color: got 3, expected a word",
        ),
    ],
)
def test_bad_scenes_are_named_before_anything_is_paid(distil, tmp_path, text, said):
    (tmp_path / "scenes.json").write_text(text)
    with serving(lambda request, served: Reply("")) as server:
        status, _ = distil(server, tmp_path / "scenes.json")
    assert said in str(status) and server.requests == []


def test_missing_pictures_are_named_with_a_folder(distil, tmp_path):
    with serving(lambda request, served: Reply("")) as server:
        status, _ = distil(server, write(tmp_path, scenes(1)), "--image_folder", tmp_path)
    assert "scenes[0]: image: got 'CLEVR_0.png'" in str(status) and server.requests == []


def test_a_second_run_pays_only_for_what_is_new(distil, tmp_path):
    def replies(request: dict, served: int) -> Reply:
        return Reply(f"<answer>{total(request)}</answer>", reasoning="I count.")

    with serving(replies) as server:
        distil(server, write(tmp_path, scenes(6)), "--by_attribute", 0, "--limit", 4)
        _, out = distil(server, tmp_path / "scenes.json", "--by_attribute", 0)
    assert "6 rows: kept 6, rejected 0; 2 answers asked for, 4 taken" in out
    assert len(server.requests) == 6
