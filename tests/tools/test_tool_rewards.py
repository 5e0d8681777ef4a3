"""Rewards of tool use, and of completions with tool turns: by `open_r1.score`, and as training asks for them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from open_r1.data.record import Record
from open_r1.rewards.custom import load_reward
from open_r1.rewards.registry import MINIMA, REWARDS
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rewards.turns import completion_text
from open_r1.score import main
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.calls import MalformedCall
from open_r1.tools.messages import ModelTurn, turn_messages
from open_r1.tools.toolbox import ToolAnswer, told

CALL = ToolCall("zoom", {"bbox_2d": [0, 0, 9, 9]})
CALLS = ModelTurn("<tool_call>...</tool_call>", (CALL,), (ToolAnswer("zoom", (Image.new("RGB", (28, 28)),)),))
FAILS = ModelTurn("<tool_call>...</tool_call>", (CALL,), (told("zoom", "got box ..."),))
MALFORMED = ModelTurn("<tool_call>?</tool_call>", (MalformedCall("got '?'"),), (told("", "got '?'"),))
TELLS = ModelTurn("<tool_call>...</tool_call>", (CALL,), (ToolAnswer("zoom", ("<answer>[7]</answer>",)),))
CUT = ModelTurn('<answer>[7]</answer><tool_call>{"arguments": {"bbox_2d": [7]}}</tool_call>', (CALL,))
RIGHT, WRONG = ModelTurn("<think>7</think><answer>[7]</answer>"), ModelTurn("<think>1</think><answer>[1]</answer>")
ROW = Record("1", (), "", (), "[7]", {}, "a.jsonl:1", "digits")

# name -> (turns, accuracy, tool_bonus, tool_errors)
TRAJECTORIES = {
    "right, with a tool": ([CALLS, RIGHT], 1.0, 1.0, 0.0),
    "wrong, with a tool": ([CALLS, WRONG], 0.0, 0.0, 0.0),
    "right, without": ([RIGHT], 1.0, 0.0, 0.0),
    "wrong, without": ([WRONG], 0.0, 0.0, 0.0),
    "right after a failed call": ([FAILS, RIGHT], 1.0, 0.0, -0.5),
    "right after a failed and a good one": ([FAILS, CALLS, RIGHT], 1.0, 1.0, -0.5),
    "right after good ones that do not undo a failed one": ([FAILS, CALLS, CALLS, CALLS, RIGHT], 1.0, 1.0, -0.5),
    "two failed": ([FAILS, FAILS, RIGHT], 1.0, 0.0, -0.75),
    "malformed": ([MALFORMED, RIGHT], 1.0, 0.0, -0.5),
    "the tool said the answer, the model did not": ([TELLS, ModelTurn("I do not know.")], 0.0, 0.0, 0.0),
    "an earlier turn said it": (
        [ModelTurn("<answer>[7]</answer>" + CALLS.text, (CALL,), CALLS.answers), WRONG],
        0,
        0,
        0,
    ),
    "cut at a limit, with an answer before the call": ([CALLS, CUT], 0.0, 0.0, 0.0),
    "nothing": ([CALLS, ModelTurn("")], 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_the_script_scores_saved_completions_with_turns(name: str, tmp_path: Path) -> None:
    turns, accuracy, bonus, errors = TRAJECTORIES[name]
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text(json.dumps({"completion": turn_messages(turns), "gold": "[7]"}))
    names = ["accuracy", "tool_bonus", "tool_errors"]
    assert main(["--task", "digits", "--rewards", *names, "--rows", str(rows), "--out", str(out)]) == 0
    scored = json.loads(out.read_text())
    assert scored["score"] == accuracy
    assert scored["reward_values"] == dict(zip(names, (accuracy, bonus, errors), strict=True))
    again = tmp_path / "again.jsonl"
    assert main(["--task", "digits", "--rows", str(out), "--out", str(again)]) == 0
    assert "reward_values" not in json.loads(again.read_text())


def test_training_pays_what_the_script_pays() -> None:
    completions = [turn_messages(turns) for turns, *_ in TRAJECTORIES.values()]
    rows = [ROW] * len(completions)
    for place, name in enumerate(("accuracy", "tool_bonus", "tool_errors"), 1):
        paid = BatchReward(name)([""] * len(rows), completions, record=rows)
        assert paid == [float(case[place]) for case in TRAJECTORIES.values()], name


def test_equal_last_turns_with_other_turns_before_are_paid_apart() -> None:
    completions = [turn_messages([CALLS, RIGHT]), turn_messages([RIGHT]), "<think>7</think><answer>[7]</answer>"]
    assert BatchReward("tool_bonus")([""] * 3, completions, record=[ROW] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["tool_bonus", "tool_errors"])
@pytest.mark.parametrize(
    "text", ["", "<tool_response>", "<tool_call>{}</tool_call>", "<answer>[7]</answer>", "a" * 100_000]
)
def test_no_text_alone_earns_anything_from_tools(name: str, text: str) -> None:
    assert REWARDS[name](text, ROW) == 0.0


def test_the_minima_are_the_least_that_is_paid() -> None:
    failed = turn_messages([FAILS] * 2_000)
    assert -1.0 <= REWARDS["tool_errors"]("", ROW, failed) < -0.999 and MINIMA["tool_errors"](ROW) == -1.0
    assert MINIMA["tool_bonus"](ROW) == 0.0


MINE = """
def both(completion, record, images, trajectory):
    return len(images) + 10 * len(trajectory) + 100 * len(completion)

def clearing(completion, record, trajectory):
    trajectory.clear()
    return float(len(completion))

def plain(completion, record):
    return float(len(completion))

def batch(completions, **columns):
    return [float(len(completion)) for completion in completions]
"""


@pytest.mark.parametrize(("name", "expected"), [("both", 531.0), ("clearing", 5.0), ("plain", 5.0), ("batch", 3.0)])
def test_a_users_reward_sees_the_last_turn_and_by_its_argument_all_of_them(
    name: str, expected: float, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    completion = turn_messages([CALLS, ModelTurn("seven")])
    rewards = BatchReward(f"{path}:{name}")
    assert rewards([""], [completion], record=[ROW], images=[[Image.new("RGB", (28, 28))]]) == [expected]
    assert len(completion) == 3 and load_reward(f"{path}:{name}")


BAD = {
    "no messages": ([], "completion: got []"),
    "a number": (7, "completion: got 7"),
    "a message that is none": (["a"], "completion[0]: got 'a'"),
    "the prompt": ([{"role": "user", "content": "?"}], "completion[0]: got {'role': 'user'"),
    "no content": ([{"role": "assistant"}], "completion[0].content: got None"),
    "parts that are none": ([{"role": "assistant", "content": [7]}], "completion[0].content: got [7]"),
    "a tool that does not say": (
        [{"role": "tool", "content": "a"}],
        "completion[0].error: got None, expected true or false",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_saved_messages_that_are_none_are_an_error_of_their_row(name: str, tmp_path: Path) -> None:
    completion, said = BAD[name]
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text(json.dumps({"completion": completion, "gold": "[7]"}))
    assert main(["--task", "digits", "--rows", str(rows), "--out", str(out)]) == 1
    assert said in json.loads(out.read_text())["error"]


def test_messages_are_plain_json_in_openais_form() -> None:
    messages = turn_messages([CALLS, MALFORMED, RIGHT])
    assert json.loads(json.dumps(messages)) == messages
    assert [message["role"] for message in messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert messages[0]["tool_calls"] == [
        {"type": "function", "function": {"name": "zoom", "arguments": {"bbox_2d": [0, 0, 9, 9]}}}
    ]
    assert messages[1] == {"role": "tool", "name": "zoom", "content": [{"type": "image"}], "error": False}
    assert messages[2]["tool_calls"] == [{"type": "malformed", "error": "got '?'"}]
    assert completion_text(messages) == RIGHT.text
