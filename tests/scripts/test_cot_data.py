"""local_scripts/create_vision_cot_data.py against a fake endpoint: what is kept, repaired, rejected, and paid once."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.fake_endpoint import KEY, FakeEndpoint, Reply, Script, serving, text_of
from helpers.repository import REPO
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.rewards.gold import gold_score
from open_r1.rewards.parsing.answer import has_think_format

SCRIPT = REPO / "local_scripts" / "create_vision_cot_data.py"
spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def write_rows(folder: Path, rows: list[dict]) -> Path:
    Image.new("RGB", (60, 40), "red").save(folder / "a.png")
    Image.new("RGB", (60, 40), "blue").save(folder / "b.png")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counting(n: int) -> list[dict]:
    return [{"id": f"r{i}", "image": "a.png", "problem": f"Row {i}: how many?", "solution": str(i)} for i in range(n)]


def asked(request: dict) -> dict:
    """The row that a request is about: the JSON in its first user message."""
    return json.loads(text_of(request["messages"][1]))


def reply(problem: str, answer: str, thought: str = "I look.") -> str:
    solution = f"<think>{thought}</think><answer>{answer}</answer>"
    return json.dumps({"problem": problem, "solution": solution})


def obliging(request: dict, served: int) -> Reply:
    """Solves every row as its answer says."""
    row = asked(request)
    return Reply(reply(f"New. {row['question']}", row["answer"]))


@dataclass(frozen=True)
class Done:
    """What a run in this process said and returned."""

    status: int | str | None
    out: str


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The script's main in this process: `create(server, rows, *flags)`."""

    def call(server: FakeEndpoint, rows: Path, *flags: object) -> Done:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        argv = [rows, "--model", "m", "--out", rows.with_name("cot.jsonl"), *flags]
        try:
            status = script.main([str(arg) for arg in argv])
        except SystemExit as stop:
            status = stop.code
        printed = capsys.readouterr()
        return Done(status, f"{printed.out}{printed.err}{status}")

    return call


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_become_lines_for_grpo_and_sft(create, tmp_path):
    rows = [
        {"id": 5, "image": "a.png", "problem": "<image>How many?", "solution": "<answer> 3 </answer>", "level": 2},
        {"image": ["a.png", "b.png"], "problem": "Which?", "solution": "(B)", "accu_reward_method": "mcq"},
        {"problem": "1+1?", "solution": 2},
        {
            "problem": "made before",
            "solution": "x",
            "original_question": "Old?",
            "original_answer": "7",
            "image": "a.png",
        },
        {
            "image": "b.png",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "In <image> what?"},
                {"from": "gpt", "value": "a dog"},
            ],
        },
    ]
    with serving(obliging) as server:
        done = create(server, write_rows(tmp_path, rows))
    assert "5 rows: kept 5, rejected 0; 5 answers asked for, 0 taken" in done.out
    kept = lines(tmp_path / "cot.jsonl")
    assert kept[0] == {
        "level": 2,
        "id": "5",
        "image": "a.png",
        "problem": "New. <image>How many?",
        "solution": "<think>I look.</think><answer>3</answer>",
        "original_question": "How many?",
        "original_answer": "3",
        "conversations": [
            {"from": "human", "value": "New. <image>How many?"},
            {"from": "gpt", "value": "<think>I look.</think><answer>3</answer>"},
        ],
    }
    assert kept[1]["conversations"][0]["value"] == "<image><image>New. Which?"  # pictures first
    assert [row["original_question"] for row in kept[3:]] == ["Old?", "In  what?"]
    data = load_records(str(tmp_path / "cot.jsonl"), str(tmp_path))
    assert [len(record.images) for record in data] == [1, 2, 0, 1, 1]
    assert all(gold_score(record) == (1.0, 1.0) and has_think_format(record.solution) for record in data)
    by_question = {asked(request)["question"]: request for request in server.requests}
    assert set(by_question) == {"<image>How many?", "Which?", "1+1?", "Old?", "In <image> what?"}
    kinds = [part["type"] for part in by_question["Which?"]["messages"][1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert asked(by_question["In <image> what?"])["context"] == ["system: Be brief."]


BAD = {
    "no JSON": "Here it is: <think>a</think><answer>0</answer>",
    "a list": "[]",
    "no solution": '{"problem": "a"}',
    "no tags": json.dumps({"problem": "How many?", "solution": "0"}),
    "two answers": json.dumps({"problem": "p", "solution": "<think>a</think><answer>0</answer><answer>1</answer>"}),
    "a lost backslash": '{"problem": "What is \\frac12?", "solution": "<think>a</think><answer>0</answer>"}',
    "too many image tags": reply("<image><image> How many?", "0"),
    "nothing": "",
}


@pytest.mark.parametrize("name", ["no JSON", "no tags", "a lost backslash", "nothing"])
def test_an_unreadable_reply_is_sent_back_with_what_is_wrong(create, tmp_path, name):
    with serving(lambda request, served: Reply(BAD[name]) if served == 0 else obliging(request, served)) as server:
        done = create(server, write_rows(tmp_path, counting(1)))
    assert "kept 1, rejected 0; 2 answers asked for" in done.out
    _, user, bad, repair = server.requests[1]["messages"]
    assert (user["role"], bad) == ("user", {"role": "assistant", "content": BAD[name] or "(nothing)"})
    assert repair["content"].startswith("That reply cannot be used: ")


def test_repairs_are_bounded_then_counted_with_the_reason(create, tmp_path):
    names = list(BAD)

    def replies(request: dict, served: int) -> Reply:
        return Reply(BAD[names[int(asked(request)["answer"])]], finish="length")

    with serving(replies) as server:
        done = create(server, write_rows(tmp_path, counting(len(BAD))), "--max_repairs", 1)
    assert f"kept 0, rejected 8 (unreadable reply 8); {2 * len(BAD)} answers asked for" in done.out
    assert (tmp_path / "cot.jsonl").read_text() == ""
    rejected = lines(tmp_path / "cot.rejected.jsonl")
    assert [row["reply"] for row in rejected] == list(BAD.values())
    assert rejected[0]["where"].endswith("rows.jsonl:1") and "cut at its token limit" in rejected[0]["details"]


def test_only_answers_that_verify_are_kept(create, tmp_path):
    answers = {"0": "0.0", "1": "2", "2": "2", "3": "3 or 4"}

    def replies(request: dict, served: int) -> Reply:
        return Reply(reply("How many?", answers[asked(request)["answer"]]))

    with serving(replies) as server:
        done = create(server, write_rows(tmp_path, counting(4)))
    assert "kept 2, rejected 2 (not verified 2)" in done.out
    assert [row["id"] for row in lines(tmp_path / "cot.jsonl")] == ["r0", "r2"]
    wrong = lines(tmp_path / "cot.rejected.jsonl")[0]
    assert (wrong["reason"], wrong["details"]) == ("not verified", "the answer does not verify against '1'")


def test_the_answer_can_be_hidden_and_the_rows_limited(create, tmp_path):
    def replies(request: dict, served: int) -> Reply:
        return Reply(reply("How many?", "1" if "Row 1:" in asked(request)["question"] else "9"))

    with serving(replies) as server:
        done = create(server, write_rows(tmp_path, counting(9)), "--hide_answer", "--limit", 3, "--max_tokens", 64)
    assert "3 rows: kept 1, rejected 2" in done.out
    assert all("answer" not in asked(request) and request["max_tokens"] == 64 for request in server.requests)
    assert not any("and its answer" in text_of(request["messages"][0]) for request in server.requests)


@pytest.mark.slow
def test_a_run_goes_on_after_kill_9_and_pays_for_nothing_twice(create, tmp_path):
    rows, workers = write_rows(tmp_path, counting(40)), 4
    flags = ["--model", "m", "--out", str(tmp_path / "cot.jsonl"), "--workers", str(workers)]
    journal = tmp_path / "cot.journal.jsonl"

    killed = threading.Event()

    def slow(request: dict, served: int) -> Reply:
        """Those from the thirtieth on are answered once the first run has been killed."""
        assert served < 30 or killed.wait(240)
        return Reply(obliging(request, served).text, after=0.03)

    with serving(slow) as server:
        env = {**os.environ, **server.environment()}
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(rows), *flags], env=env)
        while not journal.exists() or len(journal.read_bytes().splitlines()) < 10:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        assert not (tmp_path / "cot.jsonl").exists()
        kept = len(journal.read_bytes().split(b"\n")) - 1
        with open(journal, "ab") as file:
            file.write(b'{"key": "0a0b", "value": {"text": "cut he')  # as a kill in the middle of a write leaves it
        first = Counter(asked(request)["question"] for request in server.requests)
        server.requests.clear()
        done = create(server, rows, "--workers", workers)
        second = Counter(asked(request)["question"] for request in server.requests)
    assert 10 <= kept < 40 and f"{40 - kept} answers asked for, {kept} taken" in done.out
    assert set(first.values()) == set(second.values()) == {1}
    twice = first.keys() & second.keys()
    assert len(twice) <= workers  # under way when the process died: their answers never reached it
    assert len(first.keys() | second.keys()) == 40 and len(second) == 40 - kept
    whole = (tmp_path / "cot.jsonl").read_bytes()
    assert [row["id"] for row in lines(tmp_path / "cot.jsonl")] == [f"r{i}" for i in range(40)]
    with serving(slow) as server:  # a third run asks nothing and writes the same bytes
        create(server, rows)
        assert server.requests == [] and (tmp_path / "cot.jsonl").read_bytes() == whole


def test_another_picture_or_model_is_another_question(create, tmp_path):
    rows = write_rows(tmp_path, counting(2))
    with serving(obliging) as server:
        create(server, rows)
        Image.new("RGB", (60, 40), "green").save(tmp_path / "a.png")
        create(server, rows)
        create(server, rows, "--model", "another")  # the last --model counts
    assert [request["model"] for request in server.requests] == ["m"] * 4 + ["another"] * 2


def failing(status: int, rows: set[str]) -> Script:
    def replies(request: dict, served: int) -> Reply:
        return Reply(status=status) if asked(request)["answer"] in rows else obliging(request, served)

    return replies


def test_a_row_that_stays_unanswered_is_asked_again_by_the_same_command(create, tmp_path):
    rows = write_rows(tmp_path, counting(5))
    with serving(failing(400, {"2"})) as server:
        done = create(server, rows)
        assert done.status == 1 and "rejected 1 (unanswered 1)" in done.out
        assert "asks for the unanswered rows again" in done.out
        (lost,) = lines(tmp_path / "cot.rejected.jsonl")
        assert lost["where"].endswith(":3") and "status 400" in lost["details"] and KEY not in lost["details"]
        server.script = obliging
        assert "kept 5, rejected 0; 1 answers asked for, 4 taken" in create(server, rows).out


def test_a_wrong_key_stops_at_once_and_is_not_shown(create, tmp_path):
    with serving(lambda request, served: Reply(status=401)) as server:
        done = create(server, write_rows(tmp_path, counting(50)), "--workers", 2)
    assert "status 401" in done.out and "export the OPENAI_API_KEY" in done.out
    assert len(server.requests) <= 6  # those already under way
    everything = done.out + "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert KEY not in everything


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "none.png", "problem": "a", "solution": "1"}, r"rows\.jsonl:2: image: got 'none\.png'"),
        ({"image": "a.png", "problem": "a", "solution": ""}, r"rows\.jsonl:2: solution: got"),
        ({"image": "a.png", "original_question": "a", "original_answer": None}, r"rows\.jsonl:2: solution: got null"),
        (
            {"image": "a.png", "problem": "a", "solution": "dog", "accu_reward_method": "mcq"},
            r"rows\.jsonl:2: solution: got 'dog', expected option letters, A to Z",
        ),
        ({"video": ["a.png", "a.png"], "problem": "a", "solution": "1"}, r"rows\.jsonl:2: video: got 1 video\(s\)"),
    ],
)
def test_bad_rows_are_named_before_anything_is_paid(create, tmp_path, row, said):
    with serving(obliging) as server:
        done = create(server, write_rows(tmp_path, [*counting(1), row]))
    assert server.requests == []
    assert re.search(said, done.out), done.out
